"""What a usage record costs, and what its customer pays: away from the caller's path, when a record is sent or read."""

from openai_metering.pricing.amounts import Amount
from openai_metering.pricing.pricefile import PriceFile, PriceFileError
from openai_metering.pricing.pricer import FACTS, Priced, Pricer

__all__ = ["FACTS", "Amount", "PriceFile", "PriceFileError", "Priced", "Pricer"]

"""Where the checkout, the data of the tests and the real models lie."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DATA = CHECKOUT / "tests" / "data"
SHARED = CHECKOUT.parent / "shared"

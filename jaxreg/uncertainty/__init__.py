"""How far a fit's parameters and curve can be trusted: intervals, bands, profiles, bootstrap, nonlinearity.

Intervals and bands from the covariance are exact for models linear in their parameters; ``nonlinearity`` says how far a
model is from that, and profiles and the bootstrap do without it.
"""

from jaxreg.uncertainty._bootstrap import Bootstrap, bootstrap
from jaxreg.uncertainty._derived import Derived, derived
from jaxreg.uncertainty._linear import Band, Intervals, band, intervals, quantile
from jaxreg.uncertainty._nonlinearity import Nonlinearity, nonlinearity
from jaxreg.uncertainty._profile import Contour, Profile, ProfileIntervals, profile, profile_contour, profile_intervals

__all__ = [
    "Band",
    "Bootstrap",
    "Contour",
    "Derived",
    "Intervals",
    "Nonlinearity",
    "Profile",
    "ProfileIntervals",
    "band",
    "bootstrap",
    "derived",
    "intervals",
    "nonlinearity",
    "profile",
    "profile_contour",
    "profile_intervals",
    "quantile",
]


def __getattr__(name: str) -> object:
    if name in ("curvature", "Curvature"):
        raise AttributeError(f"uncertainty.{name} is called nonlinearity now, and takes the fit alone")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

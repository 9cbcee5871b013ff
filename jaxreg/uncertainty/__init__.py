"""How far a fit's parameters and curve can be trusted: intervals, bands, profiles, bootstrap, curvature.

Intervals and bands from the covariance are exact for models linear in their parameters; ``curvature`` says how far a
model is from that, and profiles and the bootstrap do without it.
"""

from jaxreg.uncertainty._bootstrap import Bootstrap, bootstrap
from jaxreg.uncertainty._curvature import Curvature, curvature
from jaxreg.uncertainty._linear import Band, Intervals, band, intervals, quantile
from jaxreg.uncertainty._profile import Contour, Profile, ProfileIntervals, profile, profile_contour, profile_intervals

__all__ = [
    "Band",
    "Bootstrap",
    "Contour",
    "Curvature",
    "Intervals",
    "Profile",
    "ProfileIntervals",
    "band",
    "bootstrap",
    "curvature",
    "intervals",
    "profile",
    "profile_contour",
    "profile_intervals",
    "quantile",
]

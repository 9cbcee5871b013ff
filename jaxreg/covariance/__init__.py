"""Covariance of a fit's parameters from its linearisation: classic, sandwich (HC0-HC3) and full-Hessian.

All come from a QR of the column-scaled Jacobian, never from the inverse of JᵀJ, and hold for robust losses too: with
ψ and ψ' the loss's derivatives at the residuals, the bread is A = Σ ψ'ᵢ Jᵢ Jᵢᵀ and the sandwich's filling Σ ψᵢ² Jᵢ Jᵢᵀ.
Absolute and quantile losses have no ψ' but the density of the errors at zero: "classic" takes one for all rows, so it
holds where the errors do not depend on the features; a sandwich takes Powell's kernel in each row's place, of one width
for all, so that intervals of what rests on rows with small errors are too wide.

But for the squared loss they are for many points. With n = 10, scale "mad" and Huber's or Tukey's loss nominal 95 %
intervals of a line's slope hold it in 87 to 92 % (HC0: 86 %); of outer quantiles (q = 0.1 or 0.9) in 88 to 92 % at
n = 200 and in 74 to 87 % at n = 40.
"""

from jaxreg.covariance._estimate import KINDS, estimate
from jaxreg.covariance._factors import Covariance
from jaxreg.covariance._rows import Rows

__all__ = ["KINDS", "Covariance", "Rows", "estimate"]

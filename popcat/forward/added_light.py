"""What dust emits and a nucleus adds to band fluxes, in units of all light of stars and gas; and its gradient.

flux_b += factor (L_abs E_b(z; q_PAH, U_min, gamma) + f_AGN L_clear A_b(z; E(B-V))), with

    L_clear = sum_c (light_c + light'_c),  L_abs = L_clear - sum_c (old_c light_c + young_c light'_c)

over the columns of all light (popcat.forward.projection), E_b of the tables, linear between their nodes, and A_b the
sum over the band's columns of the nucleus's light through its own dust. The law is popcat.forward.components'.
"""

import numpy as np

from popcat.forward.lookups import LN_10, node_cell
from popcat.forward.quadrature import fast_exp, kernel, sum_of

_U = np.uint64


@kernel()
def all_light(s, first_all, step):
    """L_clear and L_abs of one galaxy, per Msun formed, of its columns from first_all on."""
    clear, left = 0.0, 0.0
    for c in range(_U(first_all), _U(len(step))):
        clear += (1.0 - step[c]) * s.light[c] + (1.0 - step[c]) * s.light_young[c]
        left += s.old[c] * s.light[c] + s.young[c] * s.light_young[c]
    return clear, clear - left


@kernel()
def add_nucleus(theta, iz, fz, lum, t, first_all, flux):
    """Add the nucleus to the fluxes of one galaxy's columns; lum : L_clear times the galaxy's factor. t : Added."""
    ebv, lum = theta[t.first_agn + 1], lum * fast_exp(LN_10 * theta[t.first_agn])
    z0, z1 = _U(iz), _U(iz + 1)
    near, far, tau_near, tau_far = t.agn[z0], t.agn[z1], t.agn_curve[z0], t.agn_curve[z1]
    for c in range(_U(first_all)):
        light = near[c] + fz * (far[c] - near[c])
        tau = ebv * (tau_near[c] + fz * (tau_far[c] - tau_near[c]))
        flux[c] += lum * light * fast_exp(-tau)


@kernel()
def add_emission(theta, iz, fz, lum, t, flux):
    """Add the emission of dust to the band fluxes of one galaxy; lum : L_abs times the galaxy's factor. t : Added."""
    iq, fq, _ = node_cell(theta[t.first_emission], t.q_pah)
    iu, fu, _ = node_cell(np.log(theta[t.first_emission + 1]), t.ln_u_min)
    share, _, _, _ = _share(theta[t.first_emission + 2], iq, fq, iu, fu, t.power_law)
    for j in range(16):
        term, z, q, u = j // 8, (j // 4) % 2, (j // 2) % 2, j % 2
        weight = lum * (share if term else 1.0 - share)
        weight *= (fz if z else 1.0 - fz) * (fq if q else 1.0 - fq) * (fu if u else 1.0 - fu)
        bands = t.emission[iz + z, term, iq + q, iu + u]
        for b in range(len(flux)):
            flux[b] += weight * bands[b]


@kernel()
def _share(gamma, iq, fq, iu, fu, ratio):
    """power_law_share of popcat.forward.dust_emission, and its derivatives in gamma, fq and fu."""
    low, high = ratio[iq, iu] * (1.0 - fu) + ratio[iq, iu + 1] * fu, (
        ratio[iq + 1, iu] * (1.0 - fu) + ratio[iq + 1, iu + 1] * fu
    )
    r = low * (1.0 - fq) + high * fq
    bottom = 1.0 - gamma + gamma * r
    d_r = gamma * (1.0 - gamma) / (bottom * bottom)
    d_fu = (ratio[iq, iu + 1] - ratio[iq, iu]) * (1.0 - fq) + (ratio[iq + 1, iu + 1] - ratio[iq + 1, iu]) * fq
    return gamma * r / bottom, r / (bottom * bottom), d_r * (high - low), d_r * d_fu


@kernel()
def nucleus_gradient(theta, iz, fz, lum, v, t, first_all, term, grad):
    """Gradient of sum(v flux) through `add_nucleus`, v of every column: to grad that in its own parameters; returned
    that in the fraction between the tables' redshifts, and in lum. term : room for three numbers a column."""
    ebv, f_agn = theta[t.first_agn + 1], fast_exp(LN_10 * theta[t.first_agn])
    z0, z1 = _U(iz), _U(iz + 1)
    near, far, tau_near, tau_far = t.agn[z0], t.agn[z1], t.agn_curve[z0], t.agn_curve[z1]
    seen, d_ebv, d_fz = term[0], term[1], term[2]
    for c in range(_U(first_all)):
        d_light, d_tau = far[c] - near[c], tau_far[c] - tau_near[c]
        light, tau = near[c] + fz * d_light, tau_near[c] + fz * d_tau
        through = v[c] * fast_exp(-ebv * tau)
        seen[c] = through * light
        d_ebv[c] = tau * through * light
        d_fz[c] = through * (d_light - ebv * d_tau * light)
    n = _U(first_all)
    per_lum = f_agn * sum_of(seen[:n])
    grad[t.first_agn] += lum * LN_10 * per_lum
    grad[t.first_agn + 1] -= lum * f_agn * sum_of(d_ebv[:n])
    return lum * f_agn * sum_of(d_fz[:n]), per_lum


@kernel()
def emission_gradient(theta, iz, fz, lum, v, t, grad):
    """Gradient of sum(v flux) through `add_emission`, v of every band: to grad that in its own parameters; returned
    that in the fraction between the tables' redshifts, and in lum."""
    first = t.first_emission
    iq, fq, per_q = node_cell(theta[first], t.q_pah)
    iu, fu, per_u = node_cell(np.log(theta[first + 1]), t.ln_u_min)
    share, share_gamma, share_fq, share_fu = _share(theta[first + 2], iq, fq, iu, fu, t.power_law)
    total, d_share, d_fz, d_fq, d_fu = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(16):
        term, z, q, u = j // 8, (j // 4) % 2, (j // 2) % 2, j % 2
        bands, seen = t.emission[iz + z, term, iq + q, iu + u], 0.0
        for b in range(len(v)):
            seen += v[b] * bands[b]
        of, wz, wq, wu = share if term else 1.0 - share, fz if z else 1.0 - fz, fq if q else 1.0 - fq, (
            fu if u else 1.0 - fu
        )
        total += of * wz * wq * wu * seen
        d_share += (1.0 if term else -1.0) * wz * wq * wu * seen
        d_fz += (1.0 if z else -1.0) * of * wq * wu * seen
        d_fq += (1.0 if q else -1.0) * of * wz * wu * seen
        d_fu += (1.0 if u else -1.0) * of * wz * wq * seen
    grad[first] += lum * (d_fq + d_share * share_fq) * per_q
    grad[first + 1] += lum * (d_fu + d_share * share_fu) * per_u / theta[first + 1]
    grad[first + 2] += lum * d_share * share_gamma
    return lum * d_fz, total

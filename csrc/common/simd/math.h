// Elementary functions of a Vec, the same to the last bit on every instruction set. Include after a Vec.
//
// The polynomials are least-squares fits on Chebyshev points in double precision, each good to about half an ulp of
// float32 before rounding.
#ifndef OPTPRUNE_COMMON_SIMD_MATH_H
#define OPTPRUNE_COMMON_SIMD_MATH_H

#include <cstdint>

namespace optprune {
namespace {

// c[0] + c[1] x + c[2] x² + …
template <int N>
Vec polynomial(Vec x, const float (&c)[N]) {
    Vec sum = Vec::spread(c[N - 1]);
    for (int i = N - 2; i >= 0; --i) sum = Vec::fma(sum, x, Vec::spread(c[i]));
    return sum;
}

inline Vec negative(Vec x) { return Vec::sub(Vec::zero(), x); }

inline Vec absolute(Vec x) { return Vec::max(negative(x), x); }

// e^x = 2^n e^r with |r| <= ln 2 / 2. Below -87.3 it is 2^-126, not a denormal number; above 88.3 it stays finite.
//
// N numbers step by step side by side: one alone is a long chain, and a processor looks only so far ahead for others.
template <int N>
void exponentials(Vec (&x)[N]) {
    static const float q[] = {0.5f, 0.16666573f, 0.041666456f, 0.0083637768f, 0.0013934545f};
    Vec counted[N], sum[N];
    for (int i = 0; i < N; ++i) x[i] = Vec::min(Vec::spread(88.3f), Vec::max(Vec::spread(-87.3f), x[i]));
    // Added to 1.5 · 2^23 a number is rounded to a whole one, which stands in the last bits: n + 127, an exponent.
    const Vec whole = Vec::spread(12582912.0f + 127.0f);
    for (int i = 0; i < N; ++i) counted[i] = Vec::fma(x[i], Vec::spread(1.44269504f), whole);
    for (int i = 0; i < N; ++i) {
        // ln 2 in two parts: the first has few bits, so that n times it is exact
        const Vec n = Vec::sub(counted[i], whole);
        x[i] = Vec::fma(n, Vec::spread(2.12194440e-4f), Vec::fma(n, Vec::spread(-0.693359375f), x[i]));
    }
    for (int i = 0; i < N; ++i) sum[i] = Vec::fma(x[i], Vec::spread(q[4]), Vec::spread(q[3]));
    for (int k = 2; k >= 0; --k) {
        for (int i = 0; i < N; ++i) sum[i] = Vec::fma(sum[i], x[i], Vec::spread(q[k]));
    }
    for (int i = 0; i < N; ++i) sum[i] = Vec::fma(Vec::mul(x[i], x[i]), sum[i], x[i]);
    for (int i = 0; i < N; ++i) {
        x[i] = Vec::mul(Vec::add(Vec::spread(1.0f), sum[i]), Vec::power_of_two(counted[i]));
    }
}

// sum += e^x for x <= 0 and sums that get to one or more, as those of a softmax: 2^t of a rounded t = x / ln 2 loses
// |x| half ulps, and |x| e^x is no more than 1/e. Below 2^-126 nothing gets smaller.
template <int N>
void add_exponentials(Vec (&sum)[N], Vec (&x)[N]) {
    static const float q[] = {0.69314718f, 0.24022648f, 0.055503324f, 0.0096184369f, 0.0013398875f, 0.00015353362f};
    const Vec whole = Vec::spread(12582912.0f + 127.0f);
    Vec counted[N], power[N];
    for (int i = 0; i < N; ++i) x[i] = Vec::max(Vec::spread(-126.0f), Vec::mul(x[i], Vec::spread(1.44269504f)));
    for (int i = 0; i < N; ++i) counted[i] = Vec::add(x[i], whole);
    for (int i = 0; i < N; ++i) x[i] = Vec::sub(x[i], Vec::sub(counted[i], whole));
    for (int i = 0; i < N; ++i) power[i] = Vec::fma(x[i], Vec::spread(q[5]), Vec::spread(q[4]));
    for (int k = 3; k >= 0; --k) {
        for (int i = 0; i < N; ++i) power[i] = Vec::fma(power[i], x[i], Vec::spread(q[k]));
    }
    for (int i = 0; i < N; ++i) power[i] = Vec::fma(power[i], x[i], Vec::spread(1.0f));
    for (int i = 0; i < N; ++i) sum[i] = Vec::fma(power[i], Vec::power_of_two(counted[i]), sum[i]);
}

inline Vec exponential(Vec x) {
    Vec one[1] = {x};
    exponentials(one);
    return one[0];
}

// ln x for positive normal x: the mantissa lies in [1/√2, √2), where ln(1 + f) = f - f²/2 + f³ q(f)
inline Vec logarithm(Vec x) {
    static const float q[] = {0.33333331f, -0.2499999f, 0.20000714f, -0.1666843f, 0.14249641f,
                              -0.12412216f, 0.11666141f, -0.1156366f, 0.071254596f};
    const Vec root_two = Vec::spread(1.41421356f), one = Vec::spread(1.0f), m = Vec::mantissa(x);
    const Vec e = Vec::if_less(m, root_two, Vec::exponent(x), Vec::add(Vec::exponent(x), one));
    const Vec f = Vec::sub(Vec::if_less(m, root_two, m, Vec::mul(m, Vec::spread(0.5f))), one);
    const Vec square = Vec::mul(f, f);
    Vec rest = Vec::mul(Vec::mul(square, f), polynomial(f, q));
    rest = Vec::fma(e, Vec::spread(-2.12194440e-4f), rest);
    rest = Vec::fma(square, Vec::spread(-0.5f), rest);
    return Vec::fma(e, Vec::spread(0.693359375f), Vec::add(f, rest));
}

inline Vec hyperbolic_tangent(Vec x) {
    static const float q[] = {-0.33333328f, 0.13332783f, -0.053852499f, 0.021003641f, -0.006104948f};
    const Vec size = absolute(x), square = Vec::mul(x, x), one = Vec::spread(1.0f);
    const Vec small = Vec::fma(Vec::mul(square, size), polynomial(square, q), size);
    const Vec e = exponential(Vec::mul(size, Vec::spread(-2.0f)));
    const Vec large = Vec::div(Vec::sub(one, e), Vec::add(one, e));
    const Vec both = Vec::if_less(size, Vec::spread(0.625f), small, large);
    return Vec::if_less(x, Vec::zero(), negative(both), both);
}

inline Vec logistic(Vec x) {
    const Vec one = Vec::spread(1.0f), e = exponential(negative(absolute(x)));
    const Vec small = Vec::div(one, Vec::add(one, e));  // of |x|
    return Vec::if_less(x, Vec::zero(), Vec::mul(e, small), small);
}

// e^x - 1 for x <= 0: the difference cancels near zero, where the series of six terms is good to an ulp
inline Vec exponential_less_one(Vec x) {
    static const float series[] = {0.5f, 0.16666667f, 0.041666667f, 0.0083333333f, 0.0013888889f};
    const Vec near = Vec::fma(Vec::mul(x, x), polynomial(x, series), x);
    return Vec::if_less(x, Vec::spread(-0.3f), Vec::sub(exponential(x), Vec::spread(1.0f)), near);
}

// x / (1 + e^-x). Below -80 the logistic stops getting smaller, so x may not get larger either.
inline Vec logistic_unit(Vec x) { return Vec::mul(Vec::max(Vec::spread(-80.0f), x), logistic(x)); }

// x Φ(x) = max(0, x) - u Φ(-u) with u = |x|, which loses no digits on the negative side.
// Φ(-u) = e^(-u²/2) p(u) / q(u) for u <= 13; beyond nothing is left of it. u² = r - 2 n ln 2 with whole n and small r,
// in which the product u² is not rounded.
template <int N>
void gaussian_units(Vec (&x)[N]) {
    static const float e[] = {1.0f, -0.5f, 0.125f, -0.16666573f / 8, 0.041666456f / 16, -0.0083637768f / 32,
                              0.0013934545f / 64};  // of exponentials(), for -r/2
    static const float p[] = {0.5f, 0.434975654f, 0.1807836f, 0.0398086496f, 0.00399433402f};
    static const float q[] = {1.0f, 1.66783623f, 1.19230402f, 0.4629997f, 0.0997931361f, 0.0100121601f};
    const Vec whole = Vec::spread(12582912.0f + 127.0f);
    Vec size[N], rest[N], part[N], tail[N];
    for (int i = 0; i < N; ++i) size[i] = Vec::min(Vec::spread(13.0f), absolute(x[i]));
    for (int i = 0; i < N; ++i) {
        const Vec counted = Vec::fma(Vec::mul(size[i], size[i]), Vec::spread(-0.72134752f), whole);
        const Vec n = Vec::sub(counted, whole);
        rest[i] = Vec::fma(size[i], size[i], Vec::mul(n, Vec::spread(1.38671875f)));
        rest[i] = Vec::fma(n, Vec::spread(-4.2438888e-4f), rest[i]);
        tail[i] = Vec::mul(size[i], Vec::power_of_two(counted));
    }
    for (int i = 0; i < N; ++i) part[i] = Vec::fma(rest[i], Vec::spread(e[6]), Vec::spread(e[5]));
    for (int k = 4; k >= 0; --k) {
        for (int i = 0; i < N; ++i) part[i] = Vec::fma(part[i], rest[i], Vec::spread(e[k]));
    }
    for (int i = 0; i < N; ++i) tail[i] = Vec::mul(tail[i], part[i]);
    for (int i = 0; i < N; ++i) part[i] = Vec::fma(size[i], Vec::spread(p[4]), Vec::spread(p[3]));
    for (int k = 2; k >= 0; --k) {
        for (int i = 0; i < N; ++i) part[i] = Vec::fma(part[i], size[i], Vec::spread(p[k]));
    }
    for (int i = 0; i < N; ++i) tail[i] = Vec::mul(tail[i], part[i]);
    for (int i = 0; i < N; ++i) part[i] = Vec::fma(size[i], Vec::spread(q[5]), Vec::spread(q[4]));
    for (int k = 3; k >= 0; --k) {
        for (int i = 0; i < N; ++i) part[i] = Vec::fma(part[i], size[i], Vec::spread(q[k]));
    }
    for (int i = 0; i < N; ++i) x[i] = Vec::sub(Vec::max(Vec::zero(), x[i]), Vec::div(tail[i], part[i]));
}

}  // namespace
}  // namespace optprune

#endif

// Steps that treat every number alone, and the activations.
#ifndef OPTPRUNE_KERNELS_POPULATION_ELEMENTWISE_H
#define OPTPRUNE_KERNELS_POPULATION_ELEMENTWISE_H

#include "kernels/population/tile.h"

namespace optprune::population {
namespace {

inline Vec clamp(Vec x, float low, float high) {
    return Vec::min(Vec::spread(high), Vec::max(Vec::spread(low), x));
}

// What an activation that only cuts off keeps numbers within: for a kernel that applies it as it stores.
struct Bounds {
    float low = -__builtin_inff(), high = __builtin_inff();

    bool has_high() const { return high < __builtin_inff(); }
};

inline Bounds bounds_of(const Step &step) {
    switch (step.activation) {
        case Activation::relu: return {0.0f};
        case Activation::relu6: return {0.0f, 6.0f};
        case Activation::hardtanh: return {step.parameters[0], step.parameters[1]};
        default: return {};
    }
}

// min and max keep their second argument where one is not a number: NaN comes out as NaN.
inline Vec activate(Vec x, Activation kind, const float *parameters) {
    switch (kind) {
        case Activation::none: return x;
        case Activation::relu: return Vec::max(Vec::zero(), x);
        case Activation::relu6: return clamp(x, 0.0f, 6.0f);
        case Activation::hardtanh: return clamp(x, parameters[0], parameters[1]);
        case Activation::leaky_relu:
            return Vec::if_less(x, Vec::zero(), Vec::mul(x, Vec::spread(parameters[0])), x);
        case Activation::elu: {
            const Vec curve = exponential_less_one(Vec::min(Vec::zero(), x));
            return Vec::if_less(x, Vec::zero(), Vec::mul(curve, Vec::spread(parameters[0])), x);
        }
        case Activation::gelu: {
            Vec one[1] = {x};
            gaussian_units(one);
            return one[0];
        }
        case Activation::gelu_tanh: {
            const Vec cube = Vec::mul(Vec::mul(x, x), x);
            const Vec inner = Vec::mul(Vec::spread(0.79788456f), Vec::fma(cube, Vec::spread(0.044715f), x));
            // (1 + tanh u) / 2 is the logistic function of 2u, which loses nothing on the negative side
            return Vec::mul(Vec::max(Vec::spread(-80.0f), x), logistic(Vec::add(inner, inner)));
        }
        case Activation::silu: return logistic_unit(x);
        case Activation::sigmoid: return logistic(x);
        case Activation::tanh: return hyperbolic_tangent(x);
        case Activation::hardsigmoid:
        case Activation::hardswish: {
            const Vec part = Vec::div(clamp(Vec::add(x, Vec::spread(3.0f)), 0.0f, 6.0f), Vec::spread(6.0f));
            return kind == Activation::hardswish ? Vec::mul(x, part) : part;
        }
    }
    return x;
}

// GELU of `n` registers, `step` floats from one to the next: long enough for four to be computed side by side.
inline void gaussian_run(float *x, std::int64_t n, std::int64_t step) {
    constexpr int abreast = 4;
    std::int64_t k = 0;
    for (; k + abreast <= n; k += abreast) {
        Vec some[abreast];
        for (int i = 0; i < abreast; ++i) some[i] = Vec::load(x + (k + i) * step);
        gaussian_units(some);
        for (int i = 0; i < abreast; ++i) some[i].store(x + (k + i) * step);
    }
    for (; k < n; ++k) activate(Vec::load(x + k * step), Activation::gelu, nullptr).store(x + k * step);
}

// The activation of `n` registers that lie side by side.
inline void activate_run(const Step &step, float *x, std::int64_t n) {
    if (step.activation == Activation::gelu) return gaussian_run(x, n, L);
    for (std::int64_t k = 0; k < n; ++k) {
        activate(Vec::load(x + k * L), step.activation, step.parameters).store(x + k * L);
    }
}

template <class F>
void pointwise(const Tile &tile, const Step &step, F f) {
    float *out = at(tile, step.out);
    const Source a = source(tile, step.a, step.bias), b = source(tile, step.b, step.extra);
    const std::int64_t last = step.out.rank - 1, n = step.out.shape[last];
    const std::int64_t so = step.out.stride[last], sa = step.a.stride[last], sb = step.b.stride[last];
    each(step.out, step.a, step.b, last, [&](std::int64_t o, std::int64_t i, std::int64_t j) {
        if (step.activation == Activation::gelu) {
            for (std::int64_t k = 0; k < n; ++k) f(a.get(i + k * sa), b, j + k * sb).store(out + (o + k * so) * L);
            return gaussian_run(out + o * L, n, so * L);
        }
        for (std::int64_t k = 0; k < n; ++k) {
            const Vec v = f(a.get(i + k * sa), b, j + k * sb);
            activate(v, step.activation, step.parameters).store(out + (o + k * so) * L);
        }
    });
}

inline void elementwise(const Tile &tile, const Step &step) {
    switch (step.op) {
        case Op::add:
            return pointwise(tile, step, [](Vec a, const Source &b, std::int64_t j) { return Vec::add(a, b.get(j)); });
        case Op::subtract:
            return pointwise(tile, step, [](Vec a, const Source &b, std::int64_t j) { return Vec::sub(a, b.get(j)); });
        case Op::multiply:
            return pointwise(tile, step, [](Vec a, const Source &b, std::int64_t j) { return Vec::mul(a, b.get(j)); });
        case Op::scale: {
            const Vec factor = Vec::spread(step.extra[0]), shift = Vec::spread(step.extra[1]);
            return pointwise(tile, step,
                             [=](Vec a, const Source &, std::int64_t) { return Vec::fma(a, factor, shift); });
        }
        default: return pointwise(tile, step, [](Vec a, const Source &, std::int64_t) { return a; });
    }
}

// One register of samples becomes one column of the wide tile.
inline void widen(const Tile &tile, const Step &step) {
    const float *a = at(tile, step.a);
    float *out = at(tile, step.out) + tile.column * L;
    each(step.out, step.a, step.a, step.out.rank, [&](std::int64_t o, std::int64_t i, std::int64_t) {
        Vec::load(a + i * L).store(out + o * L);
    });
}

}  // namespace
}  // namespace optprune::population

#endif

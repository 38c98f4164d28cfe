// The floor of the benchmark: read memory once, do nothing with it. One thread.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

__attribute__((target("avx2"))) std::uint64_t read_avx2(const char *from, std::size_t bytes) {
    __m256i sum[4] = {};
    std::size_t i = 0;
    for (; i + 128 <= bytes; i += 128) {
        for (int j = 0; j < 4; ++j) {
            sum[j] = _mm256_or_si256(sum[j], _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from + i + 32 * j)));
        }
    }
    std::uint64_t rest = 0, lanes[4];
    for (; i < bytes; ++i) rest |= static_cast<unsigned char>(from[i]);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(lanes),
                        _mm256_or_si256(_mm256_or_si256(sum[0], sum[1]), _mm256_or_si256(sum[2], sum[3])));
    return rest | lanes[0] | lanes[1] | lanes[2] | lanes[3];
}

__attribute__((target("avx512f"))) std::uint64_t read_avx512(const char *from, std::size_t bytes) {
    __m512i sum[4] = {};
    std::size_t i = 0;
    for (; i + 256 <= bytes; i += 256) {
        for (int j = 0; j < 4; ++j) sum[j] = _mm512_or_si512(sum[j], _mm512_loadu_si512(from + i + 64 * j));
    }
    std::uint64_t rest = 0;
    for (; i < bytes; ++i) rest |= static_cast<unsigned char>(from[i]);
    return rest | static_cast<std::uint64_t>(_mm512_reduce_or_epi64(
                      _mm512_or_si512(_mm512_or_si512(sum[0], sum[1]), _mm512_or_si512(sum[2], sum[3]))));
}

}  // namespace

extern "C" const char *instructions() { return __builtin_cpu_supports("avx512f") ? "AVX-512" : "AVX2"; }

extern "C" std::uint64_t read_all(const char *from, std::size_t bytes) {
    return __builtin_cpu_supports("avx512f") ? read_avx512(from, bytes) : read_avx2(from, bytes);
}

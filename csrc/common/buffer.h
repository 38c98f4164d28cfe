// Scratch memory that starts on a cache line.
#ifndef OPTPRUNE_COMMON_BUFFER_H
#define OPTPRUNE_COMMON_BUFFER_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>

namespace optprune {

constexpr std::size_t cache_line = 64;

struct FreeAligned {
    void operator()(void *memory) const { ::operator delete(memory, std::align_val_t{cache_line}); }
};

template <class T>
using Buffer = std::unique_ptr<T[], FreeAligned>;

// Room for `count` numbers, not initialized; std::bad_alloc where there is none.
template <class T>
Buffer<T> make_buffer(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    return Buffer<T>(static_cast<T *>(::operator new(bytes, std::align_val_t{cache_line})));
}

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace optprune

#endif

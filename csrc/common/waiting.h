// Waiting for what another thread is about to do: a short while awake, then asleep.
#ifndef OPTPRUNE_COMMON_WAITING_H
#define OPTPRUNE_COMMON_WAITING_H

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace optprune {

inline void pause_thread() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Whether `ready` holds, at once or within the time that falling asleep and being woken would cost. Meanwhile whoever else
// wants the core gets it: more threads than cores must not keep each other from the work that they wait for.
template <class Ready>
bool ready_soon(const Ready &ready) {
    constexpr std::chrono::microseconds patience{50};
    constexpr int pauses = 32;
    const auto start = std::chrono::steady_clock::now();
    do {
        for (int i = 0; i < pauses; ++i) {
            if (ready()) return true;
            pause_thread();
        }
        std::this_thread::yield();
    } while (std::chrono::steady_clock::now() - start < patience);
    return ready();
}

// For conditions on atomics that others change, who say so afterwards.
class Waiting {
  public:
    template <class Ready>
    void until(const Ready &ready) {
        if (ready_soon(ready)) return;
        std::unique_lock<std::mutex> lock(mutex_);
        ++asleep_;
        woken_.wait(lock, ready);
        --asleep_;
    }

    // Either the sleeper sees the change that went before this call, or this call sees the sleeper.
    void changed() {
        if (asleep_ == 0) return;
        { const std::lock_guard<std::mutex> lock(mutex_); }
        woken_.notify_all();
    }

  private:
    std::atomic<std::int64_t> asleep_{0};
    std::mutex mutex_;
    std::condition_variable woken_;
};

}  // namespace optprune

#endif

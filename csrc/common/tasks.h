// Tasks that threads take one after the other until none is left.
#ifndef OPTPRUNE_COMMON_TASKS_H
#define OPTPRUNE_COMMON_TASKS_H

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <utility>

namespace optprune {

// task in [0, tasks); slot in [0, threads): no two tasks that run at the same time have the same slot, so that a slot
// can own scratch memory.
using Task = std::function<void(std::int64_t task, std::int64_t slot)>;

class Tasks {
  public:
    // Not while a thread is in drain().
    void set(const Task &run, std::int64_t count) {
        run_ = &run;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
    }

    // After an exception no further task is begun.
    void drain(std::int64_t slot) {
        try {
            for (std::int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) (*run_)(task, slot);
        } catch (...) {
            next_.store(count_, std::memory_order_relaxed);
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!error_) error_ = std::current_exception();
        }
    }

    // The first exception, once all threads are out.
    void rethrow() {
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }

  private:
    const Task *run_ = nullptr;
    std::int64_t count_ = 0;
    std::atomic<std::int64_t> next_{0};
    std::mutex mutex_;
    std::exception_ptr error_;  // guarded by it
};

}  // namespace optprune

#endif

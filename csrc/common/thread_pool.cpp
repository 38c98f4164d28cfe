#include "common/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "common/waiting.h"

namespace optprune {
namespace {

// The default floating-point mode for as long as this lives, then the caller's again.
class DefaultFloats {
  public:
    DefaultFloats() {
        std::fegetenv(&callers_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultFloats() { std::fesetenv(&callers_); }
    DefaultFloats(const DefaultFloats &) = delete;
    DefaultFloats &operator=(const DefaultFloats &) = delete;

  private:
    std::fenv_t callers_;
};

struct Job {
    Tasks tasks{};
    // Below: changed under the pool's mutex.
    std::int64_t helpers;                  // that may still join
    std::int64_t slots = 1;                // handed out; the caller has slot 0
    std::atomic<std::int64_t> working{0};  // helpers inside
    std::condition_variable left{};

    Job(const Task &run, std::int64_t count, std::int64_t most_helpers) : helpers(most_helpers) { tasks.set(run, count); }
};

class Pool {
  public:
    void run(Job &job) {
        const std::int64_t helpers = job.helpers;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            grow(helpers);
            jobs_.push_back(&job);
        }
        for (std::int64_t i = 0; i < helpers; ++i) work_.notify_one();
        job.tasks.drain(0);
        std::unique_lock<std::mutex> lock(mutex_);
        withdraw(job);
        lock.unlock();
        const auto all_left = [&job] { return job.working == 0; };
        ready_soon(all_left);
        lock.lock();
        job.left.wait(lock, all_left);
    }

  private:
    void grow(std::int64_t wanted) {
        try {
            for (; workers_ < wanted; ++workers_) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error &) {
            // The system gives no more threads: those that are there, or the caller alone, do the work.
        }
    }

    void serve() {
        std::fesetenv(FE_DFL_ENV);  // a new thread inherits the mode of the one that made it
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            work_.wait(lock, [this] { return !jobs_.empty(); });
            Job &job = *jobs_.front();
            if (--job.helpers == 0) withdraw(job);
            const std::int64_t slot = job.slots++;
            ++job.working;
            lock.unlock();
            job.tasks.drain(slot);
            lock.lock();
            withdraw(job);  // nothing is left to take
            if (--job.working == 0) job.left.notify_one();
        }
    }

    void withdraw(Job &job) { jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end()); }

    std::mutex mutex_;
    std::condition_variable work_;
    std::vector<Job *> jobs_;  // that helpers may join
    std::int64_t workers_ = 0;
};

std::atomic<Pool *> pool{nullptr};

// The threads of the parent do not exist in its child, and the parent's pool may have been locked: leave it as it is
// and start anew.
void forget_pool() { pool.store(nullptr); }

// Never destroyed: its threads sleep in it until the process ends.
Pool &the_pool() {
    static const int hook = pthread_atfork(nullptr, nullptr, forget_pool);
    static_cast<void>(hook);
    Pool *found = pool.load();
    if (found != nullptr) return *found;
    Pool *fresh = new Pool;
    if (pool.compare_exchange_strong(found, fresh)) return *fresh;
    delete fresh;  // another thread was faster; this one has no workers yet
    return *found;
}

}  // namespace

void parallel_for(std::int64_t tasks, std::int64_t threads, const Task &run) {
    const DefaultFloats floats;
    if (threads <= 1 || tasks <= 1) {
        for (std::int64_t task = 0; task < tasks; ++task) run(task, 0);
        return;
    }
    Job job(run, tasks, std::min(threads, tasks) - 1);
    the_pool().run(job);
    job.tasks.rethrow();
}

std::int64_t worth_threads(double multiply_adds, std::int64_t threads) {
    constexpr double per_thread = 100'000;
    return std::min(threads, 1 + static_cast<std::int64_t>(std::min(multiply_adds / per_thread, 1e6)));
}

}  // namespace optprune

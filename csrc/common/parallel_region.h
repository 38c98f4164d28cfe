// Threads that enter once and go through several phases of work.
#ifndef OPTPRUNE_COMMON_PARALLEL_REGION_H
#define OPTPRUNE_COMMON_PARALLEL_REGION_H

#include <atomic>
#include <cstdint>
#include <functional>

#include "common/tasks.h"
#include "common/waiting.h"

namespace optprune {

//   the lead   enters │ phase 1 │ goes on alone │ phase 2 │ … │ leaves
//   helpers    enter  │ phase 1 │ wait          │ phase 2 │ … │ leave
//
// To begin a phase costs a write that waiting threads see; parallel_for has to wake them. Nobody waits for a helper that
// has not come yet: it may join in the middle of any phase, or find all work done.
class ParallelRegion {
  public:
    explicit ParallelRegion(std::int64_t threads) : threads_(threads) {}

    std::int64_t threads() const { return threads_; }

    // A phase: the lead runs every task with the help of those inside, and returns when all are done. The first exception
    // of a task is thrown again here; tasks not yet started are then dropped, and another phase may follow.
    void run(std::int64_t tasks, const Task &run);

  private:
    friend void parallel_region(std::int64_t threads, const std::function<void(ParallelRegion &)> &lead);

    void help(std::int64_t slot);
    void end();

    static constexpr std::int64_t closed = std::int64_t{1} << 32, ended = -1;

    const std::int64_t threads_;
    std::int64_t lead_slot_ = 0;
    Tasks tasks_;
    std::atomic<std::int64_t> inside_{closed};  // helpers in a phase; plus `closed` between phases
    std::atomic<std::int64_t> phase_{0};        // how many have begun, or `ended`
    Waiting waiting_;
};

// Run `lead` with at most `threads` threads, its own among them, for its phases. What parallel_for promises of nested and
// simultaneous calls, fork, floating-point modes and slots holds here, too; `lead` may run on another thread than the
// caller's, which then helps.
void parallel_region(std::int64_t threads, const std::function<void(ParallelRegion &)> &lead);

}  // namespace optprune

#endif

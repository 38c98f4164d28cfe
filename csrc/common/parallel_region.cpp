#include "common/parallel_region.h"

#include <algorithm>

#include "common/thread_pool.h"

namespace optprune {

void ParallelRegion::run(std::int64_t tasks, const Task &run) {
    tasks_.set(run, tasks);
    if (threads_ > 1 && tasks > 1) {
        inside_.fetch_sub(closed);
        phase_.fetch_add(1);
        waiting_.changed();
        tasks_.drain(lead_slot_);
        inside_.fetch_add(closed);
        waiting_.until([this] { return inside_ == closed; });
    } else {
        tasks_.drain(lead_slot_);
    }
    tasks_.rethrow();
}

void ParallelRegion::help(std::int64_t slot) {
    for (std::int64_t seen = 0;;) {
        waiting_.until([&] { return phase_ != seen; });
        seen = phase_;
        if (seen == ended) return;
        if (inside_.fetch_add(1) < closed) tasks_.drain(slot);
        if (inside_.fetch_sub(1) == closed + 1) waiting_.changed();
    }
}

void ParallelRegion::end() {
    phase_ = ended;
    waiting_.changed();
}

void parallel_region(std::int64_t threads, const std::function<void(ParallelRegion &)> &lead) {
    // Tasks are begun in order: by the time that a helper has its task, the lead has begun.
    ParallelRegion region(std::max<std::int64_t>(1, threads));
    const auto enter = [&](std::int64_t task, std::int64_t slot) {
        if (task > 0) return region.help(slot);
        region.lead_slot_ = slot;
        try {
            lead(region);
        } catch (...) {
            region.end();
            throw;
        }
        region.end();
    };
    parallel_for(region.threads(), region.threads(), enter);
}

}  // namespace optprune

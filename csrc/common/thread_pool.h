// One pool of sleeping threads for the whole process.
#ifndef OPTPRUNE_COMMON_THREAD_POOL_H
#define OPTPRUNE_COMMON_THREAD_POOL_H

#include <cstdint>

#include "common/tasks.h"

namespace optprune {

// Run every task, on at most `threads` threads with the caller among them, and return when all are done.
//
// - May be called from several threads at once and from inside a task.
// - A child of fork() starts with an empty pool of its own.
// - Tasks run with the default floating-point mode (round to nearest, denormal numbers kept) whatever the caller has
//   set, or results would depend on the thread.
// - The first exception of a task is thrown again here; tasks not yet started are then dropped.
void parallel_for(std::int64_t tasks, std::int64_t threads, const Task &run);

// Threads that `multiply_adds` of work are worth: waking one costs as much as some 100,000 of them.
std::int64_t worth_threads(double multiply_adds, std::int64_t threads);

}  // namespace optprune

#endif

// Callers from several threads, jobs inside jobs, exceptions: built with -fsanitize=thread by test_threads.py.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/thread_pool.h"

namespace {

std::atomic<int> failures{0};

void expect(bool holds, const char *what) {
    if (!holds) {
        std::printf("%s\n", what);
        ++failures;
    }
}

// Slots own plain memory: two tasks in one slot at a time are a race that the sanitizer sees.
void sum_in_slots(std::int64_t tasks, std::int64_t threads) {
    std::vector<std::int64_t> sums(static_cast<std::size_t>(threads));
    optprune::parallel_for(tasks, threads, [&](std::int64_t task, std::int64_t slot) {
        sums[static_cast<std::size_t>(slot)] += task + 1;
        if (task % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));  // let the others come in
    });
    std::int64_t total = 0;
    for (std::int64_t sum : sums) total += sum;
    expect(total == tasks * (tasks + 1) / 2, "a task ran twice or not at all");
}

void throw_in_a_task() {
    try {
        optprune::parallel_for(100, 3, [](std::int64_t task, std::int64_t) {
            if (task == 7) throw std::runtime_error("seven");
        });
        expect(false, "an exception of a task is lost");
    } catch (const std::runtime_error &error) {
        expect(std::string(error.what()) == "seven", "an exception of a task came back as another");
    }
}

}  // namespace

int main() {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller) {
        callers.emplace_back([] {
            for (int round = 0; round < 200; ++round) {
                sum_in_slots(round % 50, 1 + round % 4);
                optprune::parallel_for(3, 3, [](std::int64_t, std::int64_t) { sum_in_slots(20, 2); });
                throw_in_a_task();
            }
        });
    }
    for (std::thread &caller : callers) caller.join();
    return failures == 0 ? 0 : 1;
}

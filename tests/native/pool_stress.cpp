// Callers from several threads, jobs and regions inside each other, exceptions: built with -fsanitize=thread by test_threads.py.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/parallel_region.h"
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

// What a phase has written, the lead and the next phase read: without a barrier between them, a race that the sanitizer
// sees. The pauses let helpers come late, and fall asleep between phases.
void pass_on_through_phases(std::int64_t tasks, std::int64_t threads, int phases) {
    std::vector<std::int64_t> now(static_cast<std::size_t>(tasks), 1), before;
    std::vector<std::int64_t> of_slot(static_cast<std::size_t>(threads));
    std::int64_t begun = 0;
    optprune::parallel_region(threads, [&](optprune::ParallelRegion &region) {
        expect(region.threads() == threads, "a region has other threads than it was given");
        for (int phase = 0; phase < phases; ++phase) {
            before = now;
            region.run(tasks, [&](std::int64_t task, std::int64_t slot) {
                now[static_cast<std::size_t>(task)] = 2 * before[static_cast<std::size_t>(tasks - 1 - task)];
                ++of_slot[static_cast<std::size_t>(slot)];
                if (task % 16 == 5) std::this_thread::sleep_for(std::chrono::microseconds(100));
            });
            begun += tasks;
            if (phase % 3 == 1) std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    });
    for (const std::int64_t number : now) expect(number == std::int64_t{1} << phases, "a phase began before the last ended");
    for (const std::int64_t number : of_slot) begun -= number;
    expect(begun == 0, "a task of a phase ran twice or not at all");
}

void throw_in_a_phase() {
    optprune::parallel_region(3, [](optprune::ParallelRegion &region) {
        try {
            region.run(50, [](std::int64_t task, std::int64_t) {
                if (task == 7) throw std::runtime_error("seven");
            });
            expect(false, "an exception in a phase is lost");
        } catch (const std::runtime_error &error) {
            expect(std::string(error.what()) == "seven", "an exception in a phase came back as another");
        }
        std::atomic<int> run{0};
        region.run(50, [&](std::int64_t, std::int64_t) { ++run; });
        expect(run == 50, "after an exception the next phase is not whole");
    });
    try {
        optprune::parallel_region(3, [](optprune::ParallelRegion &) { throw std::runtime_error("lead"); });
        expect(false, "an exception of the lead is lost");
    } catch (const std::runtime_error &error) {
        expect(std::string(error.what()) == "lead", "an exception of the lead came back as another");
    }
}

// Two tasks that wait for each other, in phases that a helper has slept before: only one that is woken is there in time.
void wake_sleepers() {
    optprune::parallel_region(2, [](optprune::ParallelRegion &region) {
        for (int phase = 0; phase < 3; ++phase) {
            std::atomic<int> begun{0};
            region.run(2, [&](std::int64_t, std::int64_t) {
                ++begun;
                const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(10);
                while (begun < 2 && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
                expect(begun == 2, "a helper that fell asleep is not woken for a phase");
            });
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    });
}

void nest_regions() {
    optprune::parallel_region(3, [](optprune::ParallelRegion &region) {
        for (int phase = 0; phase < 2; ++phase) {
            region.run(4, [](std::int64_t task, std::int64_t) {
                pass_on_through_phases(10, 1 + task, 3);
                sum_in_slots(10, 2);
            });
        }
        pass_on_through_phases(10, 2, 2);
    });
}

}  // namespace

int main() {
    wake_sleepers();
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller) {
        callers.emplace_back([] {
            for (int round = 0; round < 200; ++round) {
                sum_in_slots(round % 50, 1 + round % 4);
                optprune::parallel_for(3, 3, [](std::int64_t, std::int64_t) { sum_in_slots(20, 2); });
                throw_in_a_task();
                pass_on_through_phases(1 + round % 40, 1 + round % 6, round % 5);
                throw_in_a_phase();
                if (round % 4 == 0) nest_regions();
            }
        });
    }
    for (std::thread &caller : callers) caller.join();
    return failures == 0 ? 0 : 1;
}

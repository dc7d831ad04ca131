// Jobs in which a rank fails, each an own mpirun of this program (a communicator that timed out is of no more
// use, so such a case ends its processes). The scenarios are the disabled tests; the others start them and
// look at how the job ended.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "parallel/failure.h"
#include "parallel/session.h"

namespace fwl {
namespace {

constexpr int kCommExit = static_cast<int>(ExitCode::kComm);
constexpr double kTimeout_s = 1.0;
constexpr double kNever_s = 3600;
// Well above the timeout and mpirun's own time, well below kNever_s.
constexpr double kSoon_s = 30;

void sleep_s(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// As launch/main.cpp does: report, then end the whole job with the error's exit code.
[[noreturn]] void end_job(const Error& error) {
  fprintf(stderr, "%s\n", error.what());
  abort_if_parallel(static_cast<int>(error.code()));
  std::exit(1);
}

struct JobEnd {
  int exit_code = -1;
  double seconds = 0;
  std::string output;
};

JobEnd run_job(const std::string& scenario, int ranks, const std::string& launcher_option = "") {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const std::string command =
      cat("exec timeout 60 mpirun --allow-run-as-root --oversubscribe --bind-to none ", launcher_option,
          " -n ", ranks, " '", program, "' --gtest_also_run_disabled_tests --gtest_filter=Scenario.DISABLED_",
          scenario, " 2>&1");
  JobEnd end;
  const double start = now_s();
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> text;
  while (fgets(text.data(), text.size(), pipe) != nullptr) end.output += text.data();
  const int status = pclose(pipe);
  end.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  end.seconds = now_s() - start;
  return end;
}

// Runs `operation` on all ranks but rank 0, which never arrives.
template <typename Operation>
void leave_others_waiting(Operation operation) {
  const auto group = make_world_communicator(kTimeout_s);
  group->barrier();
  if (group->rank() == 0) sleep_s(kNever_s);
  const double start = now_s();
  try {
    operation(*group);
    FAIL() << "the operation ended without rank 0";
  } catch (const CommError& error) {
    const double waited_s = now_s() - start;
    EXPECT_GE(waited_s, kTimeout_s);
    EXPECT_LT(waited_s, kTimeout_s + 5);
    EXPECT_THROW(group->barrier(), CommError) << "a group that failed must stay closed";
    EXPECT_LT(now_s() - start - waited_s, kTimeout_s / 2)
        << "a closed group must refuse at once, not wait again";
    if (!testing::Test::HasFailure()) end_job(error);
  }
}

TEST(Scenario, DISABLED_LateForALargeSum) {
  leave_others_waiting([](Communicator& group) { group.all_reduce_sum(at::ones({1000000})); });
}
TEST(Scenario, DISABLED_LateForASmallSum) {
  leave_others_waiting([](Communicator& group) { group.all_reduce_sum(at::ones({10})); });
}
TEST(Scenario, DISABLED_LateForABroadcast) {
  leave_others_waiting([](Communicator& group) { group.broadcast(at::ones({1000000}), 0); });
}
TEST(Scenario, DISABLED_LateForABarrier) {
  leave_others_waiting([](Communicator& group) { group.barrier(); });
}
TEST(Scenario, DISABLED_LateForAnExchange) {
  leave_others_waiting([](Communicator& group) {
    const Tensor own = at::ones({100000}), all = at::empty({group.size(), 100000});
    group.start_all_gather(all, own, purpose::kState)->wait();
  });
}
TEST(Scenario, DISABLED_LateForADisk) {
  const auto group = make_world_communicator(kNever_s);
  group->barrier();
  if (group->rank() == 0) sleep_s(kNever_s);
  try {
    const TimeoutScope disk(*group, kTimeout_s);
    group->barrier();
  } catch (const CommError& error) {
    end_job(error);
  }
}
TEST(Scenario, DISABLED_LateForTheSessionsEnd) {
  if (world().rank == 0) sleep_s(kNever_s);
  try {
    finalize_session();
  } catch (const CommError& error) {
    end_job(error);
  }
}
TEST(Scenario, DISABLED_LateForANewGroup) {
  if (world().rank == 0) sleep_s(kNever_s);
  make_world_communicator(kTimeout_s);
}
// Rank 1 fails while rank 0 finishes what takes longer than others have to end.
TEST(Scenario, DISABLED_FailsWhileAnotherFinishes) {
  constexpr int kConfigExit = static_cast<int>(ExitCode::kConfig);
  const auto group = make_world_communicator(kNever_s);
  group->barrier();
  if (group->rank() == 1) {
    report_failure(kConfigExit, "bad setting on rank 1");
    abort_if_parallel(kConfigExit);
  }
  {
    const FinishFirst whole;
    sleep_s(3);
    fprintf(stderr, "rank 0 has published\n");
  }
  sleep_s(kNever_s);
}
TEST(Scenario, DISABLED_StoppedWhileOthersWaitForTheirDisks) {
  const auto group = make_world_communicator(kTimeout_s);
  group->barrier();
  try {
    if (group->rank() == 2) raise(SIGSTOP);
    group->wait_for_own("writing to the disk", [] { return false; });
  } catch (const CommError& error) {
    end_job(error);
  }
}
// Rank 2 gets `signal` while the others wait for it.
void signal_rank_two(int signal) {
  const auto group = make_world_communicator(signal == SIGKILL ? kNever_s : kTimeout_s);
  group->barrier();
  try {
    if (group->rank() == 2) raise(signal);
    group->all_reduce_sum(at::ones({1000000}));
    sleep_s(kNever_s);
  } catch (const CommError& error) {
    end_job(error);
  }
}
TEST(Scenario, DISABLED_Killed) {
  signal_rank_two(SIGKILL);
}
TEST(Scenario, DISABLED_Stopped) {
  signal_rank_two(SIGSTOP);
}
TEST(Scenario, DISABLED_EndsWithoutFinalize) {
  const auto group = make_world_communicator(kNever_s);
  group->barrier();
  if (group->rank() == 1) std::_Exit(0);
  group->barrier();
}
TEST(Scenario, DISABLED_ConfigErrorOnOneRank) {
  const auto group = make_world_communicator(kNever_s);
  if (group->rank() == 1) end_job(ConfigError("bad setting on rank 1"));
  group->barrier();
}
TEST(Scenario, DISABLED_ShapesDisagree) {
  const auto group = make_world_communicator(kTimeout_s);
  try {
    group->all_reduce_sum(at::ones({100000 + 10 * group->rank()}));
  } catch (const CommError& error) {
    end_job(error);
  }
}

void expect_timeout(const std::string& scenario, const std::string& operation, int ranks) {
  const JobEnd end = run_job(scenario, ranks);
  EXPECT_EQ(end.exit_code, kCommExit) << end.output;
  EXPECT_LT(end.seconds, kSoon_s);
  EXPECT_NE(end.output.find(operation + " (operation 2 of group world (mpi)) on rank "), std::string::npos)
      << end.output;
  EXPECT_NE(end.output.find("Not arrived: rank 0 (host "), std::string::npos) << end.output;
  EXPECT_NE(end.output.find("is at operation 1 of group world (mpi) (after barrier)"), std::string::npos)
      << end.output;
}

TEST(FailingRanks, ARankLateForALargeSumEndsTheJobWithinTheTimeout) {
  expect_timeout("LateForALargeSum", "all_reduce_sum of control", 2);
  expect_timeout("LateForALargeSum", "all_reduce_sum of control", 4);
}
TEST(FailingRanks, ARankLateForASmallSumEndsTheJobWithinTheTimeout) {
  expect_timeout("LateForASmallSum", "all_reduce_sum of control", 2);
}
TEST(FailingRanks, ARankLateForABroadcastEndsTheJobWithinTheTimeout) {
  expect_timeout("LateForABroadcast", "broadcast of control", 2);
}
TEST(FailingRanks, ARankLateForABarrierEndsTheJobWithinTheTimeout) {
  expect_timeout("LateForABarrier", "barrier", 2);
}

TEST(FailingRanks, ARankLateForAStartedExchangeEndsTheJobWithinTheTimeout) {
  expect_timeout("LateForAnExchange", "all_gather of state", 4);
}

TEST(FailingRanks, AStoppedRankIsNamedAndEveryRankEnds) {
  const JobEnd end = run_job("Stopped", 4);
  EXPECT_EQ(end.exit_code, kCommExit) << end.output;
  EXPECT_LT(end.seconds, kTimeout_s + 10 + 4) << "ranks must end within 10 s of the deadline";
  EXPECT_NE(end.output.find("rank 2 (host "), std::string::npos) << end.output;
  EXPECT_NE(end.output.find("is stopped (SIGSTOP or a debugger)"), std::string::npos) << end.output;
}

TEST(FailingRanks, AStoppedRankEndsAWaitForTheOwnDisk) {
  const JobEnd end = run_job("StoppedWhileOthersWaitForTheirDisks", 4);
  EXPECT_EQ(end.exit_code, kCommExit) << end.output;
  EXPECT_LT(end.seconds, kTimeout_s + 10 + 4);
  EXPECT_NE(end.output.find("writing to the disk (operation 2 of group world (mpi)) on rank "),
            std::string::npos)
      << end.output;
  EXPECT_NE(end.output.find("rank 2 (host "), std::string::npos) << end.output;
  EXPECT_NE(end.output.find("is stopped (SIGSTOP or a debugger)"), std::string::npos) << end.output;
}

// Each wait's message names the setting that bounds it. (MPI's set-up, too, must fit into the session's.)
TEST(FailingRanks, AreToldWhichSettingAllowsMoreTime) {
  struct Row {
    const char* scenario;
    const char* option;
    const char* said;
  };
  for (const Row& row : {
           Row{"LateForABarrier", "", "raise parallel.timeout_s when they only needed more time"},
           Row{"LateForADisk", "", "raise checkpoints.timeout_s when they only needed more time"},
           Row{"LateForTheSessionsEnd", "-x FWL_SESSION_TIMEOUT_S=8",
               "raise FWL_SESSION_TIMEOUT_S when they only needed more time"},
           Row{"LateForANewGroup", "", "parallel.timeout_s allows more seconds"},
       }) {
    const JobEnd end = run_job(row.scenario, 2, row.option);
    EXPECT_EQ(end.exit_code, kCommExit) << row.scenario << ": " << end.output;
    EXPECT_NE(end.output.find(row.said), std::string::npos) << row.scenario << ": " << end.output;
  }
}

TEST(FailingRanks, LetARankFinishWhatIsNearlyWhole) {
  const JobEnd end = run_job("FailsWhileAnotherFinishes", 2);
  EXPECT_LT(end.seconds, kSoon_s);
  EXPECT_EQ(end.exit_code, static_cast<int>(ExitCode::kConfig)) << end.output;
  EXPECT_NE(end.output.find("rank 0 has published"), std::string::npos) << end.output;
}

TEST(FailingRanks, AKilledRankEndsTheJobLongBeforeAnyTimeout) {
  const JobEnd end = run_job("Killed", 4);
  EXPECT_NE(end.exit_code, 0) << end.output;
  EXPECT_LT(end.seconds, 15);
}

// With a launcher that lets the other ranks live (and reports success whatever happens), the watchdog notices
// by itself.
TEST(FailingRanks, AKilledRankIsNoticedWithoutTheLaunchersHelp) {
  const JobEnd end = run_job("Killed", 4, "--enable-recovery");
  EXPECT_LT(end.seconds, 20);
  EXPECT_NE(end.output.find("is gone: its process has ended"), std::string::npos) << end.output;
}

TEST(FailingRanks, ARankThatEndsWithoutFinalizeLeavesNobodyWaiting) {
  const JobEnd end = run_job("EndsWithoutFinalize", 2);
  EXPECT_LT(end.seconds, kSoon_s);
  EXPECT_NE(end.exit_code, 0) << end.output;
}

TEST(FailingRanks, AnErrorOnOneRankEndsAllWithItsExitCode) {
  const JobEnd end = run_job("ConfigErrorOnOneRank", 2);
  EXPECT_LT(end.seconds, kSoon_s);
  EXPECT_EQ(end.exit_code, static_cast<int>(ExitCode::kConfig)) << end.output;
}

TEST(FailingRanks, RanksThatDisagreeOnAShapeAreTold) {
  const JobEnd end = run_job("ShapesDisagree", 2);
  EXPECT_EQ(end.exit_code, kCommExit) << end.output;
}

}  // namespace
}  // namespace fwl

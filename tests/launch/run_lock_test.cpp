#include "launch/run_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

// A process that takes the lock and keeps it until it is killed.
pid_t start_holder(const std::string& dir) {
  int ready[2];
  EXPECT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const RunLock lock(dir);
    const char byte = 1;
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte = 0;
  EXPECT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  close(ready[1]);
  return child;
}

void kill_hard(pid_t process) {
  kill(process, SIGKILL);
  waitpid(process, nullptr, 0);
}

TEST(RunLock, ASecondProcessIsRefusedAndToldWhoHoldsIt) {
  TemporaryFolder folder;
  const std::string dir = folder / "run";
  const pid_t holder = start_holder(dir);
  try {
    const RunLock lock(dir);
    ADD_FAILURE() << "two processes hold the lock";
  } catch (const Interrupted& error) {  // try again: exit code 75
    EXPECT_NE(std::string(error.what()).find(std::to_string(holder)), std::string::npos) << error.what();
  }
  kill_hard(holder);
}

TEST(RunLock, AHolderThatHasNotWrittenItsNameIsAnotherProcess) {
  TemporaryFolder folder;
  const std::string dir = folder / "run";
  const pid_t holder = start_holder(dir);
  write_text(dir + "/lock", "");
  try {
    const RunLock lock(dir);
    ADD_FAILURE() << "two processes hold the lock";
  } catch (const Interrupted& error) {
    EXPECT_NE(std::string(error.what()).find("in use by another process ("), std::string::npos)
        << error.what();
  }
  kill_hard(holder);
}

TEST(RunLock, IsWaitedForAndThenGivenUp) {
  TemporaryFolder folder;
  const std::string dir = folder / "run";
  const auto group = make_local_communicator();
  pid_t holder = start_holder(dir);
  EXPECT_THROW(wait_for_run_lock(dir, 0, *group), Interrupted);
  const double begun = now_s();
  EXPECT_THROW(wait_for_run_lock(dir, 0.3, *group), Interrupted);
  EXPECT_GE(now_s() - begun, 0.3);
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    kill_hard(holder);
  });
  EXPECT_NE(wait_for_run_lock(dir, 60, *group), nullptr);
  killer.join();
}

TEST(RunLock, AKilledHoldersLockIsFree) {
  TemporaryFolder folder;
  const std::string dir = folder / "run";
  kill_hard(start_holder(dir));
  EXPECT_TRUE(std::filesystem::exists(dir + "/lock")) << "the crash left the file";
  EXPECT_NO_THROW(RunLock{dir});
  EXPECT_NO_THROW(RunLock{dir}) << "and so does a good end";
}

TEST(RunLock, AFolderThatCannotBeMadeIsAConfigError) {
  TemporaryFolder folder;
  write_text(folder / "file", "x");
  EXPECT_THROW(RunLock(folder / "file/run"), ConfigError);
}

}  // namespace
}  // namespace fwl

#include "launch/run_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

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
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(holder)), std::string::npos) << error.what();
  }
  kill_hard(holder);
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

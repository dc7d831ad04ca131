#include "launch/run_room.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/system_error.h"
#include "launch/run_lock.h"
#include "parallel/session.h"
#include "parallel/texts.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr double kTimeout_s = 20;

TEST(RunRoom, WhatMayPassIsUnavailableAndTheRestIsTheConfigs) {
  for (const int error : {EIO, ESTALE, ENFILE, EMFILE, ETIMEDOUT, ENOMEM})
    EXPECT_THROW(refuse_folder(error, "'x' cannot be written", "Choose another."), SystemError) << error;
  for (const int error : {EACCES, EPERM, EROFS, ENAMETOOLONG, ENOTDIR, ELOOP})
    EXPECT_THROW(refuse_folder(error, "'x' cannot be written", "Choose another."), ConfigError) << error;
}

TEST(RunRoom, AFolderThatAllRanksSeeIsLeftAsItWas) {
  const auto group = make_world_communicator(kTimeout_s);
  TemporaryFolder own;
  const std::string dir = broadcast_text(*group, own / "shared");
  if (group->rank() == 0) fs::create_directories(dir);
  group->barrier();
  EXPECT_NO_THROW(require_shared(dir, *group));
  group->barrier();
  EXPECT_TRUE(fs::is_empty(dir));
  group->barrier();
}

TEST(RunRoom, AFolderOfEachHostsOwnIsRefusedOnAllRanks) {
  const auto group = make_world_communicator(kTimeout_s);
  TemporaryFolder own;
  std::string said;
  try {
    require_shared(own / "", *group);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    said = error.what();
  }
  EXPECT_NE(said.find("host "), std::string::npos) << said;
  EXPECT_NE(said.find("does not see what rank 0 writes"), std::string::npos) << said;
  EXPECT_TRUE(fs::is_empty(own / ""));
  group->barrier();
}

TEST(RunLock, AFolderThatCannotBeMadeIsRefusedOnAllRanks) {
  const auto group = make_world_communicator(kTimeout_s);
  TemporaryFolder own;
  write_text(own / "file", "x");
  try {
    wait_for_run_lock(own / "file/run", 0, *group);
    ADD_FAILURE() << "it was made";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig) << error.what();
  }
  group->barrier();
}

}  // namespace
}  // namespace fwl

#include "launch/resume.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/error.h"
#include "parallel/session.h"
#include "parallel/texts.h"
#include "tests/checkpoints/saved_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr double kTimeout_s = 20;

// What all ranks can see; rank 0's.
std::string shared_folder(Communicator& group, const TemporaryFolder& own) {
  return broadcast_text(group, own / "shared");
}

// A folder that leads to itself cannot be listed, by nobody.
TEST(Resume, AFolderThatRankZeroCannotListEndsAllRanks) {
  const auto group = make_world_communicator(kTimeout_s);
  TemporaryFolder own;
  const std::string dir = shared_folder(*group, own);
  if (group->rank() == 0) fs::create_directory_symlink(dir, dir);
  group->barrier();
  const auto code_of = [](const auto& body) {
    try {
      body();
    } catch (const CommError&) {
      ADD_FAILURE() << "a rank was left waiting";
      throw;
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::kOk;
  };
  EXPECT_EQ(code_of([&] { config_to_resume("auto", dir, *group); }), ExitCode::kData);
  EXPECT_EQ(code_of([&] {
              resume_from("auto", dir, {[](const auto&) {}, [](auto&) {}}, *group);
            }),
            ExitCode::kData);
  group->barrier();
}

TEST(Resume, CheckpointsThatDifferBetweenRanksAreRefused) {
  const auto group = make_world_communicator(kTimeout_s);
  for (const bool alike : {true, false}) {
    TemporaryFolder own;
    SavedModel(alike ? 1 : static_cast<uint64_t>(group->rank()) + 1).save(own / "run/checkpoints", 10);
    // One path, of each rank's own.
    const fs::path before = fs::current_path();
    fs::current_path(own / "");
    const auto resume = [&] {
      return resume_from("run", "none/checkpoints", {[](const auto&) {}, [](auto&) {}}, *group);
    };
    if (alike)
      EXPECT_TRUE(resume().has_value());
    else
      EXPECT_THROW(resume(), DataError);
    fs::current_path(before);
    group->barrier();
  }
}

}  // namespace
}  // namespace fwl

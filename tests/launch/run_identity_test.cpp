#include "launch/run_identity.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/error.h"
#include "launch/run_config.h"
#include "tests/checkpoints/saved_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// A run's folder with one checkpoint; an empty id: from before there were ids.
std::string make_run(const std::string& dir, const std::string& id) {
  RunConfig config;
  config.run_id = id;
  SavedModel model(1);
  CheckpointInfo info = SavedModel::info_at(10);
  info.config_yaml = to_yaml(fields_of(config));
  write_text(dir + "/config.yaml", info.config_yaml);
  return write_checkpoint(dir + "/checkpoints", info, model.blocks(0, 1));
}

TEST(RunIdentity, ACheckpointIsOfTheRunThatHoldsItOrHasItsId) {
  TemporaryFolder folder;
  const std::string a = folder / "a", b = folder / "b", old_a = folder / "old_a", old_b = folder / "old_b";
  const std::string of_a = make_run(a, "1"), of_b = make_run(b, "2"), of_old = make_run(old_a, "");
  make_run(old_b, "");
  fs::copy(a, folder / "copy", fs::copy_options::recursive);
  fs::create_directory_symlink(a, folder / "link");
  const auto is_of = [](const std::string& checkpoint, const std::string& run_dir) {
    return is_of_run(read_checkpoint_info(checkpoint), run_dir);
  };
  EXPECT_TRUE(is_of(of_a, a));
  EXPECT_TRUE(is_of(of_a, folder / "link"));
  EXPECT_TRUE(is_of(of_a, folder / "copy")) << "the same id";
  EXPECT_TRUE(is_of(of_old, old_a)) << "lies there";
  EXPECT_FALSE(is_of(of_b, a));
  EXPECT_FALSE(is_of(of_old, old_b)) << "no id proves nothing";
  EXPECT_FALSE(is_of(of_a, folder / "a2")) << "a name that begins alike";
  EXPECT_NE(new_run_id(), new_run_id());
  EXPECT_EQ(new_run_id().size(), 16U);
}

TEST(RunIdentity, AnOldRunGoesAsideAndALinkStays) {
  TemporaryFolder folder;
  EXPECT_FALSE(holds_run(folder / "none"));
  fs::create_directories(folder / "empty/checkpoints");
  EXPECT_FALSE(set_old_run_aside(folder / "empty")) << "no run has begun there";
  make_run(folder / "disk/run", "1");
  fs::create_directory_symlink(folder / "disk/run", folder / "link");
  EXPECT_TRUE(set_old_run_aside(folder / "link"));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_TRUE(fs::is_empty(folder / "disk/run"));
  EXPECT_TRUE(holds_run(folder / "disk/run.previous-1"));
  make_run(folder / "disk/run", "2");
  EXPECT_TRUE(set_old_run_aside(folder / "disk/run"));
  EXPECT_TRUE(holds_run(folder / "disk/run.previous-2"));
}

}  // namespace
}  // namespace fwl

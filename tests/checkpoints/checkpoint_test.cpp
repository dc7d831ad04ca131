#include "checkpoints/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/small_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

struct SavedModel {
  LanguageModel model;
  AdamW optimizer;
  explicit SavedModel(uint64_t seed)
      : model(small_model_config(), at::kCPU, at::kFloat, seed), optimizer(model.parameters(), {}) {
    at::manual_seed(static_cast<int64_t>(seed));
    optimizer.first_moments().normal_();
    optimizer.second_moments().normal_().abs_();
  }
  std::string save(const std::string& dir, int64_t step, int64_t keep = 0) {
    TrainingProgress progress;
    progress.step = step;
    progress.samples = 8 * step;
    progress.loss_sum = 0.1 + 0.2;
    return write_checkpoint(dir,
                            {model.parameters(), optimizer.first_moments(), optimizer.second_moments(),
                             progress, "a: 1\n", "byte", ""},
                            keep);
  }
  void load(const std::string& path) {
    read_checkpoint_tensors(path, model.parameters(), &optimizer.first_moments(),
                            &optimizer.second_moments());
  }
  bool same_as(SavedModel& other) {
    return at::equal(model.parameters().values(), other.model.parameters().values()) &&
           at::equal(optimizer.first_moments(), other.optimizer.first_moments()) &&
           at::equal(optimizer.second_moments(), other.optimizer.second_moments());
  }
};

TEST(Checkpoint, RoundTripIsBitExact) {
  TemporaryFolder folder;
  SavedModel written(1), read(2);
  ASSERT_FALSE(read.same_as(written));
  const std::string path = written.save(folder.path(), 10);
  read.load(path);
  EXPECT_TRUE(read.same_as(written));
  const CheckpointInfo info = read_checkpoint_info(path);
  EXPECT_EQ(info.progress.step, 10);
  EXPECT_EQ(info.progress.samples, 80);
  EXPECT_EQ(info.progress.loss_sum, 0.1 + 0.2);
  EXPECT_EQ(info.config_yaml, "a: 1\n");
  EXPECT_EQ(read_file(folder / "latest", "latest"), "step-00000010\n");
}

TEST(Checkpoint, KilledWriterLeavesThePreviousOneLoadable) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string good = run.save(folder.path(), 10);
  fs::create_directory(folder / ".writing-step-00000020");
  write_text(folder / ".writing-step-00000020/state.h5", "half");
  EXPECT_EQ(find_checkpoint(folder.path()), good);
  run.save(folder.path(), 30);
  EXPECT_FALSE(fs::exists(folder / ".writing-step-00000020"))
      << "the next writer removes what a killed one left";
}

TEST(Checkpoint, OldOnesGoAfterTheNewOneIsThere) {
  TemporaryFolder folder;
  SavedModel run(1);
  for (const int64_t step : {10, 20, 30, 40}) run.save(folder.path(), step, 2);
  const auto left = list_checkpoints(folder.path());
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(fs::path(left[0]).filename(), "step-00000040");
  EXPECT_EQ(fs::path(left[1]).filename(), "step-00000030");
}

TEST(Checkpoint, EveryDamagedByteIsRefusedAndChangesNothing) {
  TemporaryFolder folder;
  SavedModel written(1);
  const std::string path = written.save(folder.path(), 10);
  const std::string whole = read_file(path + "/state.h5", "state");
  int refused = 0;
  const int tries = 60;
  for (int i = 0; i < tries; ++i) {
    std::string damaged = whole;
    const size_t at_byte = (whole.size() - 1) * static_cast<size_t>(i) / (tries - 1);
    damaged[at_byte] = static_cast<char>(damaged[at_byte] ^ 0x10);
    write_text(path + "/state.h5", damaged);
    SavedModel read(2), untouched(2);
    try {
      read.load(path);
      // A byte of padding or of unused metadata: then all that was read must be right.
      EXPECT_TRUE(read.same_as(written)) << "byte " << at_byte << " was read wrong without an error";
    } catch (const DataError&) {
      ++refused;
      EXPECT_TRUE(read.same_as(untouched))
          << "byte " << at_byte << " changed the model before it was refused";
    }
  }
  EXPECT_GT(refused, tries / 3);
}

TEST(Checkpoint, CutOffMissingAndForeignFilesAreDataErrors) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string path = run.save(folder.path(), 10);
  EXPECT_THROW(find_checkpoint(folder / "nowhere"), DataError);
  EXPECT_THROW(find_checkpoint(path + "/.."
                                      "/../.."),
               DataError);
  const std::string whole = read_file(path + "/state.h5", "state");
  write_text(path + "/state.h5", whole.substr(0, whole.size() / 2));
  EXPECT_THROW(run.load(path), DataError);
  fs::remove(path + "/state.h5");
  EXPECT_THROW(run.load(path), DataError);
  for (const char* manifest : {"", "{", "[]", "{\"format\": \"fwl-checkpoint\", \"version\": 99}",
                               "{\"format\": \"fwl-checkpoint\", \"version\": 1}"}) {
    write_text(path + "/manifest.json", manifest);
    EXPECT_THROW(read_checkpoint_info(path), DataError) << manifest;
  }
}

TEST(Checkpoint, AnotherModelsCheckpointIsRefused) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string path = run.save(folder.path(), 10);
  ModelConfig wider = small_model_config();
  wider.width = 32;
  LanguageModel other(wider, at::kCPU, at::kFloat, 1);
  EXPECT_THROW(read_checkpoint_tensors(path, other.parameters(), nullptr, nullptr), DataError);
  LanguageModel wide_type(small_model_config(), at::kCPU, at::kDouble, 1);
  EXPECT_THROW(read_checkpoint_tensors(path, wide_type.parameters(), nullptr, nullptr), DataError);
}

}  // namespace
}  // namespace fwl

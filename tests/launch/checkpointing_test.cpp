#include "launch/checkpointing.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "tests/checkpoints/saved_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

struct Saver {
  TemporaryFolder folder;
  std::unique_ptr<Communicator> group = make_local_communicator();
  SavedModel run{1};
  Checkpointer checkpointer;
  explicit Saver(Checkpointer::Mode mode) : checkpointer(folder / "checkpoints", {}, mode, *group) {}
  void begin(int64_t step) { checkpointer.begin(SavedModel::info_at(step), run.blocks(0, 1)); }
  // What a training step does.
  void step() { checkpointer.advance(checkpointer.status()); }
  std::vector<std::string> saved() { return list_checkpoints(folder / "checkpoints"); }
};

TEST(Checkpointing, WhatIsSavedIsWhatWasThereAtBegin) {
  Saver saver(Checkpointer::Mode::kAsynchronous);
  saver.begin(10);
  saver.run.optimizer.first_moments().zero_();
  saver.run.model.parameters().values().detach().zero_();
  ASSERT_TRUE(saver.checkpointer.finish());
  SavedModel expected(1), read(2);
  ASSERT_EQ(saver.saved().size(), 1u);
  read.load(saver.saved().front());
  EXPECT_TRUE(read.same_as(expected));
}

TEST(Checkpointing, LaterStepsPublishWithoutAnyoneWaiting) {
  Saver saver(Checkpointer::Mode::kAsynchronous);
  saver.begin(10);
  for (int i = 0; i < 2000 && saver.saved().empty(); ++i) {
    saver.step();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(saver.saved().size(), 1u);
  EXPECT_TRUE(saver.checkpointer.take_blocked_s().has_value());
  EXPECT_FALSE(saver.checkpointer.take_blocked_s().has_value());
  ASSERT_TRUE(saver.checkpointer.finish());
  EXPECT_TRUE(saver.checkpointer.take_written_s().has_value());
}

TEST(Checkpointing, ASaveBeforeTheLastOneEndedWaitsForIt) {
  Saver saver(Checkpointer::Mode::kAsynchronous);
  for (const int64_t step : {10, 20, 30}) saver.begin(step);
  ASSERT_TRUE(saver.checkpointer.finish());
  EXPECT_EQ(saver.saved().size(), 3u);
}

TEST(Checkpointing, SynchronousSavesAreThereWhenBeginReturns) {
  Saver saver(Checkpointer::Mode::kSynchronous);
  saver.begin(10);
  EXPECT_EQ(saver.saved().size(), 1u);
}

TEST(Checkpointing, AFailureIsSaidAndTheNextSaveTriesAgain) {
  Saver saver(Checkpointer::Mode::kAsynchronous);
  saver.begin(10);
  ASSERT_TRUE(saver.checkpointer.finish());
  // A file where the folder of the next step should be.
  const std::string blocked = saver.folder / "checkpoints/.writing-step-0000020";
  write_text(blocked, "in the way");
  saver.begin(20);
  EXPECT_FALSE(saver.checkpointer.finish());
  EXPECT_EQ(saver.saved().size(), 1u) << "the old one is whole";
  fs::remove(blocked);
  saver.begin(30);
  EXPECT_TRUE(saver.checkpointer.finish());
  EXPECT_EQ(saver.saved().size(), 2u);
}

}  // namespace
}  // namespace fwl

#include "launch/checkpointing.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <thread>

#include "checkpoints/finite.h"
#include "launch/owned_blocks.h"
#include "launch/rescue.h"
#include "launch/signals.h"
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

// As long as it takes, some seconds at most.
template <typename Condition>
bool comes(const Condition& condition) {
  for (int i = 0; i < 5000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return condition();
}

TEST(Checkpointing, WhatIsWholeCanBePublishedBeforeTheNextStep) {
  Saver saver(Checkpointer::Mode::kAsynchronous);
  EXPECT_TRUE(saver.checkpointer.publish_if_whole()) << "nothing is under way";
  saver.begin(10);
  EXPECT_FALSE(saver.checkpointer.while_none_is_under_way([] { ADD_FAILURE() << "its folder is in use"; }));
  EXPECT_TRUE(comes([&] { return saver.checkpointer.publish_if_whole(); }));
  EXPECT_EQ(saver.saved().size(), 1u);
  ASSERT_TRUE(saver.checkpointer.finish());
  EXPECT_EQ(saver.saved().size(), 1u);
  saver.begin(20);
  ASSERT_TRUE(saver.checkpointer.finish());
  EXPECT_EQ(saver.saved().size(), 2u);
}

TEST(Checkpointing, ThreadsThatPublishTheSameSavesDoNotDisturbEachOther) {
  Saver saver(Checkpointer::Mode::kAsynchronous);
  std::atomic<bool> done = false;
  std::thread other([&] {
    while (!done) saver.checkpointer.publish_if_whole();
  });
  for (int64_t step = 1; step <= 12; ++step) {
    saver.begin(step);
    for (int i = 0; i < 5 * (step % 3); ++i) {
      saver.step();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  EXPECT_TRUE(saver.checkpointer.finish());
  done = true;
  other.join();
  EXPECT_EQ(saver.saved().size(), 12u);
}

TEST(OwnedBlocks, AThreadMayAskForThemWhileAStepReadsTheWeights) {
  const auto group = make_local_communicator();
  LanguageModel model(small_model_config(), at::kCPU, at::kBFloat16, 1);
  Parameters& parameters = model.parameters();
  ShardedOptimizer optimizer(*group, parameters, {}, OptimizerSharding::kReplicated, 1 << 20);
  parameters.refresh_copies();
  const auto before = parameters.revision();
  std::atomic<bool> done = false;
  std::thread other([&] {
    while (!done) EXPECT_TRUE(is_sound(owned_blocks(parameters, optimizer, 0, 1)));
  });
  for (int i = 0; i < 200; ++i) {
    parameters.refresh_copies();
    EXPECT_TRUE(parameters.has_fresh_copies());
    EXPECT_TRUE(parameters.revision() == before) << "to ask for them counts as a change";
  }
  done = true;
  other.join();
}

// The last one: the signal stays.
TEST(Rescue, PublishesASaveThatHasBegunAndThenTheNewestStep) {
  install_stop_signals();
  ASSERT_EQ(std::raise(SIGTERM), 0);
  Saver saver(Checkpointer::Mode::kAsynchronous);
  saver.begin(10);
  std::atomic<bool> finished = false;  // step 11
  const auto newest = [&](int64_t after) -> std::optional<Rescue::FinishedStep> {
    if (!finished || after >= 11) return std::nullopt;
    Rescue::FinishedStep step{SavedModel::info_at(11), saver.run.blocks(0, 1)};
    for (SliceBlock& block : step.blocks) block.elements = block.elements.clone();
    return step;
  };
  Rescue rescue(saver.folder / "checkpoints", {}, 0, saver.checkpointer, newest);
  EXPECT_TRUE(comes([&] { return saver.saved().size() == 1; })) << "no later step says that all have written";
  finished = true;
  EXPECT_TRUE(comes([&] { return saver.saved().size() == 2; }));
  rescue.end();
  saver.begin(11);
  EXPECT_TRUE(saver.checkpointer.finish());
  EXPECT_EQ(saver.saved().size(), 2u);
}

}  // namespace
}  // namespace fwl

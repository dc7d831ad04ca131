#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/base/file.h"
#include "launch/watch/dashboard.h"
#include "launch/watch/log_follower.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

std::string line(int step, double loss, double time_s = 0) {
  return "{\"step\": " + std::to_string(step) + ", \"tokens\": " + std::to_string(100 * step) +
         ", \"loss\": " + std::to_string(loss) +
         ", \"tokens_per_s\": 50, \"time_s\": " + std::to_string(time_s) + "}\n";
}

class LogFollowing : public testing::Test {
 protected:
  void append(const std::string& text) { std::ofstream(path_, std::ios::app) << text; }
  TemporaryFolder folder_;
  std::string path_ = folder_ / "log.jsonl";
};

TEST_F(LogFollowing, ARunThatHasNotBegunIsWaitedFor) {
  LogFollower log(path_);
  log.poll();
  EXPECT_FALSE(log.begun());
  EXPECT_FALSE(log.age_s().has_value());
  append(line(1, 5));
  log.poll();
  EXPECT_TRUE(log.begun());
  EXPECT_EQ(log.points().size(), 1U);
}

TEST_F(LogFollowing, AnUnfinishedLineIsReadWhenItIsFinished) {
  LogFollower log(path_);
  const std::string second = line(2, 4);
  append(line(1, 5) + second.substr(0, 20));
  log.poll();
  EXPECT_EQ(log.points().size(), 1U);
  append(second.substr(20));
  log.poll();
  ASSERT_EQ(log.points().size(), 2U);
  EXPECT_EQ(log.points()[1].loss, 4);
  EXPECT_EQ(log.unreadable(), 0);
}

TEST_F(LogFollowing, TheLineOfAnEarlyEndIsNoStepAndIsOverWhenTheRunGoesOn) {
  LogFollower log(path_);
  append(line(1, 5) + "{\"ended\": \"stopped\", \"step\": 1, \"why\": \"SIGTERM received\"}\n");
  log.poll();
  EXPECT_EQ(log.points().size(), 1U);
  EXPECT_EQ(log.unreadable(), 0);
  EXPECT_EQ(log.end(), "stopped: SIGTERM received");
  WatchedRun run{"run", log.begun(), log.points()};
  run.total_steps = 9;
  run.age_s = 300;
  run.end = log.end();
  const std::vector<std::string> lines = dashboard(run, 80, Glyphs::kAscii);
  EXPECT_NE(lines[0].find("stopped: SIGTERM received"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find("ETA -"), std::string::npos) << lines[1];
  append(line(2, 4));
  log.poll();
  EXPECT_EQ(log.end(), "");
}

TEST_F(LogFollowing, ALogThatAResumedRunWroteAnewIsReadFromItsStart) {
  LogFollower log(path_);
  append(line(1, 5) + line(2, 4) + line(3, 3));
  log.poll();
  EXPECT_EQ(log.points().size(), 3U);
  publish_file(path_, line(1, 5));  // as RunLog does when it goes on from step 1
  log.poll();
  ASSERT_EQ(log.points().size(), 1U);
  append(line(2, 4.5));
  log.poll();
  ASSERT_EQ(log.points().size(), 2U);
  EXPECT_EQ(log.points()[1].loss, 4.5);
}

TEST_F(LogFollowing, StepsLoggedAgainReplaceThoseBefore) {
  LogFollower log(path_);
  append(line(1, 5) + line(2, 4) + line(3, 3) + line(2, 3.5));
  log.poll();
  ASSERT_EQ(log.points().size(), 2U);
  EXPECT_EQ(log.points()[1].loss, 3.5);
}

TEST_F(LogFollowing, ADamagedLineIsCountedAndPassedOver) {
  LogFollower log(path_);
  append(line(1, 5) + "not json\n" + line(2, 4));
  log.poll();
  EXPECT_EQ(log.points().size(), 2U);
  EXPECT_EQ(log.unreadable(), 1);
}

TEST(Sparkline, HighAndLowAreTheEndsAndGapsStayGaps) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(sparkline({0, 7, nan, 3}, 10, Glyphs::kAscii), "_# -");
  EXPECT_EQ(sparkline({1, 1, 9, 9}, 2, Glyphs::kAscii), "_#");
  EXPECT_EQ(sparkline({2, 2}, 5, Glyphs::kUnicode), "\u2581\u2581");
  EXPECT_EQ(sparkline({}, 5, Glyphs::kAscii), "");
}

TEST(Durations, AreReadable) {
  EXPECT_EQ(duration_text(1.25), "1.2 s");
  EXPECT_EQ(duration_text(42), "42 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(5 * 3600 + 7 * 60), "5 h 07 min");
  EXPECT_EQ(duration_text(2 * 86400 + 3 * 3600), "2 d 03 h");
  EXPECT_EQ(duration_text(std::nan("")), "-");
}

LogPoint full_point(int step, double time_s) {
  return {step,
          100.0 * step,
          5.0 / step,
          {{"tokens_per_s", 50},
           {"time_s", time_s},
           {"loss_slow", 6.0 / step},
           {"data_wait", 0.25},
           {"communication", 0.125},
           {"peak_memory_bytes", 3.5e9},
           {"rank_lag_s.3", 0.5},
           {"rank_lag_s.11", 0.75},
           {"step_size.dense1", 0.01}}};
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& l : lines) text += l + "\n";
  return text;
}

TEST(Dashboard, SaysHowFarHowFastAndWhatItWaitsFor) {
  WatchedRun run{"runs/mine", true, {full_point(1, 2), full_point(2, 4), full_point(3, 6)}, 0, 1.0, 10};
  const std::string text = joined(dashboard(run, 100, Glyphs::kAscii));
  for (const char* part :
       {"runs/mine", "last line 1.0 s ago", " 30 %", "step 3/10", "ETA 14 s", "1.6667 (slow 2.0000)",
        "25.0 %", "12.5 %", "3.50 GB", "rank 11 0.750 s  rank 3 0.500 s", "dense1 1.00e-02"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  EXPECT_EQ(seconds_left(run), 14);  // 7 steps of 100 tokens at 50 tokens/s
}

TEST(Dashboard, FitsAnyWidth) {
  WatchedRun run{"a/very/long/path/to/the/folder/of/a/run", true, {}, 3, 1.0, 1000000};
  for (int i = 1; i < 200; ++i) run.points.push_back(full_point(i, i % 50));
  for (const Glyphs glyphs : {Glyphs::kAscii, Glyphs::kUnicode}) {
    for (const size_t width : {20U, 39U, 60U, 79U, 200U}) {
      for (const std::string& l : dashboard(run, width, glyphs)) {
        const auto characters = std::count_if(l.begin(), l.end(), [](char c) { return (c & 0xC0) != 0x80; });
        EXPECT_LE(static_cast<size_t>(characters), width) << l;
      }
    }
  }
}

TEST(Dashboard, ANarrowTerminalKeepsTheCourseOfTheLossAndAllStepSizes) {
  WatchedRun run{"r", true, {}, 0, 1.0, 100};
  for (int i = 1; i < 20; ++i) run.points.push_back(full_point(i, i));
  run.points.back().numbers["step_size.dense2"] = 0.02;
  const std::string text = joined(dashboard(run, 39, Glyphs::kAscii));
  EXPECT_NE(text.find("#"), std::string::npos) << text;
  EXPECT_NE(text.find("0.2632    #"), std::string::npos) << text;
  EXPECT_NE(text.find("dense1 1.00e-02\n"), std::string::npos) << text;
  EXPECT_NE(text.find("dense2 2.00e-02\n"), std::string::npos) << text;
}

TEST(Dashboard, ALossThatIsNoNumberIsNotHiddenBehindTheLastGoodOne) {
  WatchedRun run{"r", true, {full_point(1, 1), full_point(2, 2), full_point(3, 3), full_point(4, 4)},
                 0,   1.0,  10};
  run.points[2].loss = run.points[3].loss = std::nan("");
  const std::string text = joined(dashboard(run, 80, Glyphs::kAscii));
  EXPECT_NE(text.find("the loss is no number since step 3"), std::string::npos) << text;
  EXPECT_EQ(text.find("2.5000"), std::string::npos) << text;
}

TEST(Dashboard, TellsRestartsSilenceAndTheEnd) {
  WatchedRun run{"r", true, {full_point(1, 5), full_point(2, 10), full_point(3, 2), full_point(4, 7)},
                 0,   400,  10};
  EXPECT_EQ(restarts(run.points), (std::vector<int64_t>{2}));
  std::string text = joined(dashboard(run, 80, Glyphs::kAscii));
  EXPECT_NE(text.find("quiet for 6 min 40 s"), std::string::npos) << text;
  EXPECT_NE(text.find("1 time, last after step 2"), std::string::npos) << text;
  run.total_steps = 4;
  EXPECT_NE(joined(dashboard(run, 80, Glyphs::kAscii)).find("finished"), std::string::npos);
}

TEST(Dashboard, WaitsForWhatIsNotThere) {
  EXPECT_NE(joined(dashboard({"r"}, 80, Glyphs::kAscii)).find("waiting for the run to begin"),
            std::string::npos);
  WatchedRun begun{"r", true};
  EXPECT_NE(joined(dashboard(begun, 80, Glyphs::kAscii)).find("waiting for the first log line"),
            std::string::npos);
  begun.unreadable = 1;
  EXPECT_NE(joined(dashboard(begun, 80, Glyphs::kAscii)).find("1 unreadable line\n"), std::string::npos);
}

}  // namespace
}  // namespace fwl

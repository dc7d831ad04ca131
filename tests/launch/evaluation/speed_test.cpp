#include "launch/evaluation/speed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "launch/evaluation/result.h"

namespace fwl {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(Speed, ATimeBelowItsShareOfTheFlopsIsDisturbed) {
  EXPECT_TRUE(is_below_its_work(0.39, 0.02, 1.65));
  EXPECT_TRUE(is_below_its_work(0.2, kNaN, 1));
  EXPECT_FALSE(is_below_its_work(1.5, kNaN, 1.6)) << "within a tenth";
  EXPECT_FALSE(is_below_its_work(1.2, 0.4, 1.6)) << "within its spread";
  EXPECT_FALSE(is_below_its_work(2.1, 0.1, 1.6));
  EXPECT_FALSE(is_below_its_work(kNaN, kNaN, 1)) << "not measured";
}

TEST(Speed, EqualWorkTakesEqualTime) {
  const SpeedFigure slow{"control", "slow", 1e-3, 1e6, "cpu 1"};
  const auto with = [&](const char* mode, double seconds, double flops, const char* machine) {
    return problems_of({slow, {"other", mode, seconds, flops, machine}});
  };
  EXPECT_EQ(with("slow", 1.4e-3, 1e6, "cpu 1").size(), 1u);
  EXPECT_EQ(with("static", 0.2e-3, 1.02e6, "cpu 1").size(), 1u);
  EXPECT_TRUE(with("slow", 1.25e-3, 1e6, "cpu 1").empty());
  EXPECT_TRUE(with("slow", 1.4e-3, 1.3e6, "cpu 1").empty()) << "more work";
  EXPECT_TRUE(with("slow", 1.4e-3, kNaN, "cpu 1").empty()) << "unknown work";
  EXPECT_TRUE(with("slow", 1.4e-3, 1e6, "cuda:0 1").empty()) << "another machine";
  EXPECT_TRUE(with("carried", 1.4e-3, 1e6, "cpu 1").empty()) << "other batches";
  EXPECT_EQ(problems_of({{"fast", "fast", 1e-3, 1e6, "", true}}).size(), 1u);
}

EvalResult result_of(const std::string& mode, double flops, const std::vector<ModeTurn>& turns) {
  EvalResult result;
  result.mode = mode;
  result.nats = result.tokens = result.bytes = {100};
  result.flops = flops;
  result.turns = turns;
  return result;
}

// The machine is four times slower in the second turn: for both modes.
TEST(Speed, WhatHoldsUpATurnOfAllModesDoesNotChangeTheirRatio) {
  const EvalResult slow = result_of("slow", 1, {{1, 50}, {4, 50}}),
                   fast = result_of("fast", 2, {{2, 50}, {8, 50}});
  const RelativeTime time = relative_time(fast, slow);
  EXPECT_DOUBLE_EQ(time.ratio, 2);
  EXPECT_DOUBLE_EQ(time.spread, 0);
  EXPECT_FALSE(time.is_disturbed);
  EXPECT_TRUE(std::isnan(relative_time(slow, slow).spread));
  const RelativeTime disturbed = relative_time(fast, result_of("slow", 1, {{5, 50}, {5, 50}}));
  EXPECT_DOUBLE_EQ(disturbed.ratio, 1);
  EXPECT_GT(disturbed.spread, 0.5);
  EXPECT_TRUE(relative_time(result_of("fast", 2, {{1, 50}, {1, 50}}), slow).is_disturbed);
}

TEST(Speed, ALossThatIsNoNumberIsNullAndSaysSo) {
  EvalResult slow = result_of("slow", 1, {{1, 50}, {1, 50}}),
             broken = result_of("dynamic", 3, {{3, 50}, {3, 50}});
  broken.nats = {kNaN};
  EXPECT_FALSE(broken.is_finite());
  const nlohmann::json j = to_json(broken, &slow);
  EXPECT_EQ(j.at("finite"), false);
  for (const char* key : {"nats_per_token", "perplexity", "bits_per_byte", "difference_to_static"})
    EXPECT_TRUE(j.at(key).is_null()) << key;
  EXPECT_EQ(to_json(slow, &slow).at("finite"), true);
  const std::string table = table_of({slow, broken}, &slow);
  EXPECT_NE(table.find("not finite"), std::string::npos);
  EXPECT_EQ(table.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace fwl

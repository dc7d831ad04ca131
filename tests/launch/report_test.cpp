#include "launch/report/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "launch/report/tables.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

class ReportTest : public testing::Test {
 protected:
  // A run whose loss is `factor` times 4, 3, 2 at steps 10, 20, 30.
  std::string write_run(const std::string& name, double factor) {
    std::string lines;
    for (int i = 1; i <= 3; ++i) {
      lines += nlohmann::json{{"step", 10 * i},        {"tokens", 1000 * i},     {"loss", factor * (5 - i)},
                              {"loss_slow", 5.0},      {"grad_norm", 1.0},       {"skipped", 0},
                              {"learning_rate", 1e-3}, {"tokens_per_s", 100 * i}}
                   .dump() +
               "\n";
    }
    write_text(folder_ / (name + "/log.jsonl"), lines);
    return folder_ / name;
  }
  std::string write_eval(const std::string& name, double nats, double speed) {
    const nlohmann::json mode = {{"nats_per_token", nats}, {"perplexity", std::exp(nats)},
                                 {"bits_per_byte", 1.0},   {"tokens", 500},
                                 {"tokens_per_s", speed},  {"relative_time", 1.0}};
    write_text(folder_ / name, nlohmann::json{{"modes", {{"slow", mode}}}}.dump());
    return folder_ / name;
  }
  TemporaryFolder folder_;
};

nlohmann::json eval_mode(double nats, const std::vector<double>& nats_by_bin) {
  nlohmann::json bins = nlohmann::json::array();
  for (size_t i = 0; i < nats_by_bin.size(); ++i)
    bins.push_back({{"low", i + 1}, {"high", i + 1}, {"tokens", 10}, {"nats", nats_by_bin[i]}});
  return {{"nats_per_token", nats},
          {"tokens", 20},
          {"tokens_per_s", 100},
          {"difference_to_static", {{"nats_per_token", nats - 2.0}, {"percent_interval", {-12.0, -8.0}}}},
          {"breakdowns", {{"position", bins}}}};
}

TEST_F(ReportTest, TheGapIsPairedByStep) {
  const LoggedRun control = read_run("control=" + write_run("a", 1.0)),
                  fast = read_run("fast=" + write_run("b", 0.9));
  const GapCurve gap = gap_between(control, fast);
  ASSERT_EQ(gap.percent.size(), 3u);
  for (const double percent : gap.percent) EXPECT_NEAR(percent, -10.0, 1e-9);
  EXPECT_EQ(gap.tokens.back(), 3000);
  LoggedRun shifted = fast;
  for (LogPoint& p : shifted.points) p.step += 10;  // steps 20, 30, 40: two are shared
  EXPECT_EQ(gap_between(control, shifted).percent.size(), 2u);
}

TEST_F(ReportTest, RowsAreComparedWithTheFirst) {
  std::vector<EvalRow> rows = {read_eval_row("control=" + write_eval("a.json", 2.0, 1000) + ":slow"),
                               read_eval_row("fast=" + write_eval("b.json", 1.8, 500) + ":slow")};
  compare_with_baseline(rows);
  EXPECT_NEAR(rows[1].change_percent, -10.0, 1e-9);
  EXPECT_NEAR(rows[1].time_to_baseline, 2.0, 1e-9);
  EXPECT_EQ(rows[0].change_percent, 0);
}

TEST_F(ReportTest, TokensOfTwoTokenizersAreComparedByBitsPerByte) {
  const auto write = [&](const std::string& name, const char* hash, double nats, double bits) {
    const nlohmann::json mode = {{"nats_per_token", nats}, {"bits_per_byte", bits}, {"tokens", 500}};
    write_text(folder_ / name,
               nlohmann::json{{"tokenizer", {{"kind", "byte"}, {"hash", hash}}}, {"modes", {{"slow", mode}}}}
                   .dump());
    return folder_ / name;
  };
  std::vector<EvalRow> rows = {read_eval_row("a=" + write("a.json", "1", 2.0, 3.0) + ":slow"),
                               read_eval_row("b=" + write("b.json", "2", 6.0, 2.7) + ":slow")};
  compare_with_baseline(rows);
  EXPECT_NEAR(rows[1].change_percent, -10, 1e-9);
  EXPECT_EQ(best_of(rows).label, "b");
  ASSERT_FALSE(cautions_of(rows).empty());
  for (const char* word : {"several tokenizers", "byte 1 (a)", "byte 2 (b)"})
    EXPECT_NE(cautions_of(rows).front().find(word), std::string::npos) << word;
  rows = {rows[0], read_eval_row("c=" + write("c.json", "1", 1.8, 2.0) + ":slow")};
  compare_with_baseline(rows);
  EXPECT_NEAR(rows[1].change_percent, -10, 1e-9) << "of nats per token";
}

TEST_F(ReportTest, ALossThatIsNoNumberIsNotTheBestAndIsSaid) {
  EvalRow good, broken;
  broken.label = "broken";
  broken.nats_per_token = std::nan("");
  good.nats_per_token = 2;
  std::vector<EvalRow> rows = {broken, good};
  compare_with_baseline(rows);
  EXPECT_EQ(&best_of(rows), &rows[1]);
  EXPECT_EQ(evaluation_table(rows).rows[0][1], "not finite");
  ASSERT_FALSE(cautions_of(rows).empty());
  EXPECT_NE(cautions_of(rows)[0].find("broken"), std::string::npos);
}

TEST_F(ReportTest, TheControlsRowHasItsOwnName) {
  nlohmann::json control = eval_mode(2.0, {25, 15});
  control["settings"]["checkpoint"] = "runs/small/control/checkpoints/step-0000100";
  write_text(folder_ / "e.json",
             nlohmann::json{{"modes", {{"static", control}, {"slow", eval_mode(2.1, {25, 15})}}}}.dump());
  std::vector<EvalRow> rows = read_eval_rows("FWL=" + (folder_ / "e.json"));
  EXPECT_EQ(rows[0].label, "control, static");
  EXPECT_EQ(rows[1].label, "FWL, slow");
}

TEST_F(ReportTest, ThePageIsSelfContainedAndEscaped) {
  Report report{
      "a <b> & \"c\"", {read_run("x <i>=" + write_run("a", 1.0)), read_run("y=" + write_run("b", 0.9))}, {}};
  report.rows = {read_eval_row("r <u>=" + write_eval("a.json", 2.0, 1000) + ":slow")};
  compare_with_baseline(report.rows);
  const std::string page = report_html(report);
  for (const char* forbidden :
       {"<script", "src=", "@import", "url(http", "stylesheet", "x <i>", "r <u>", "a <b>"}) {
    EXPECT_EQ(page.find(forbidden), std::string::npos) << forbidden;
  }
  EXPECT_NE(page.find("a &lt;b&gt; &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_NE(page.find("prefers-color-scheme"), std::string::npos);
  const nlohmann::json numbers = report_json(report);
  ASSERT_EQ(numbers.at("gaps").size(), 1u);
  for (const double percent : numbers.at("gaps")[0].at("percent")) EXPECT_NEAR(percent, -10.0, 1e-3);
}

TEST_F(ReportTest, BadInputIsNamed) {
  EXPECT_THROW(read_run(folder_ / "none"), UnavailableError);
  write_text(folder_ / "bad/log.jsonl", "{\"step\": 1}\nnot json\n{\"step\": 3}\n");
  EXPECT_THROW(read_run(folder_ / "bad"), DataError);
  const std::string eval = write_eval("a.json", 2.0, 1000);
  EXPECT_THROW(read_eval_row("a=" + eval + ":fast"), ConfigError);
  EXPECT_THROW(read_eval_row("a=" + (folder_ / "none.json") + ":slow"), UnavailableError);
  EXPECT_THROW(read_eval_row("no mode"), ConfigError);
}

TEST_F(ReportTest, AWholeEvaluationGivesItsModesStaticFirst) {
  write_text(folder_ / "e.json", nlohmann::json{{"modes",
                                                 {{"fast", eval_mode(1.8, {20, 10})},
                                                  {"dynamic", eval_mode(1.9, {20, 15})},
                                                  {"slow", eval_mode(2.0, {25, 15})}}}}
                                     .dump());
  Report report{"t"};
  add_input(report, "FWL=" + (folder_ / "e.json"));
  compare_with_baseline(report.rows);
  ASSERT_EQ(report.rows.size(), 3U);
  EXPECT_EQ(report.rows[0].label, "FWL, slow");
  EXPECT_EQ(report.rows[1].label, "FWL, fast");
  EXPECT_EQ(report.rows[1].change_low, -12.0);
  EXPECT_TRUE(std::isnan(report.rows[0].change_low));
  const std::vector<Chart> charts = breakdown_charts(report.rows);
  ASSERT_EQ(charts.size(), 1U);
  EXPECT_EQ(charts[0].series[0].y, (std::vector<double>{0.5, 0.5}));  // (25 - 20) / 10, (15 - 10) / 10
  EXPECT_EQ(charts[0].series[1].y, (std::vector<double>{0.5, 0.0}));
  ASSERT_TRUE(speed_quality_chart(report.rows).has_value());
  EXPECT_NEAR(speed_quality_chart(report.rows)->series[1].y[0], 10.0, 1e-9);
}

TEST_F(ReportTest, IntervalsHoldAgainstTheStaticPassThatTheModeWasPairedWith) {
  EvalRow base, other;
  base.mode = "static";
  base.file = "control.json";
  base.nats_per_token = 2;
  base.tokens = other.tokens = 100;
  other.mode = "fast";
  other.file = "fwl.json";
  other.nats_per_token = 1.5;
  other.static_nats_per_token = 2;
  other.own_change_low = -30;
  other.own_change_high = -20;
  std::vector<EvalRow> rows = {base, other, other, other};
  rows[2].static_nats_per_token = 2.1;  // paired with another model's static pass
  rows[3].tokens = 99;                  // of another text
  compare_with_baseline(rows);
  EXPECT_EQ(rows[1].change_low, -30);
  EXPECT_TRUE(std::isnan(rows[2].change_low));
  EXPECT_TRUE(std::isnan(rows[3].change_low));
}

TEST_F(ReportTest, ModesStandInTheOrderOfHowFarTheyCarry) {
  const std::vector<std::string> wanted = {"static",
                                           "slow",
                                           "fast",
                                           "carried-2048",
                                           "carried-32768",
                                           "carried",
                                           "carried-stream-8192",
                                           "carried-stream",
                                           "dynamic",
                                           "carried-dynamic-2048",
                                           "carried-dynamic",
                                           "another"};
  nlohmann::json modes;
  for (const std::string& mode : wanted) modes[mode] = eval_mode(2.0, {25, 15});
  write_text(folder_ / "e.json", nlohmann::json{{"modes", modes}}.dump());
  std::vector<std::string> found;
  for (const EvalRow& row : read_eval_rows(folder_ / "e.json")) found.push_back(row.mode);
  EXPECT_EQ(found, wanted);
}

TEST_F(ReportTest, BreakdownsOfOtherTokensAreNotCompared) {
  nlohmann::json other = eval_mode(1.8, {20, 10});
  other["breakdowns"]["position"][0]["tokens"] = 11;
  write_text(folder_ / "e.json",
             nlohmann::json{{"modes", {{"fast", other}, {"slow", eval_mode(2.0, {25, 15})}}}}.dump());
  EXPECT_TRUE(breakdown_charts(read_eval_rows(folder_ / "e.json")).empty());
}

TEST_F(ReportTest, ARowFarBehindIsNamedNotDrawn) {
  const auto page_of = [&](double slow) {
    write_text(folder_ / "control.json",
               nlohmann::json{{"modes", {{"slow", eval_mode(2.0, {25, 15})}}}}.dump());
    write_text(
        folder_ / "e.json",
        nlohmann::json{{"modes", {{"slow", eval_mode(slow, {50, 40})}, {"fast", eval_mode(1.9, {24, 14})}}}}
            .dump());
    std::vector<EvalRow> rows = read_eval_rows("control=" + (folder_ / "control.json"));
    for (const EvalRow& row : read_eval_rows("fwl=" + (folder_ / "e.json"))) rows.push_back(row);
    compare_with_baseline(rows);
    const std::vector<Chart> parts = breakdown_charts(rows);
    EXPECT_FALSE(parts.empty());
    return std::pair(speed_quality_chart(rows).value(), parts.front());
  };
  const auto [far_speed, far_part] = page_of(4.5);
  EXPECT_EQ(far_speed.series.size(), 2u);
  EXPECT_EQ(far_part.series.size(), 1u);
  for (const Chart* chart : {&far_speed, &far_part})
    EXPECT_NE(chart->caption.find("fwl, slow (+125"), std::string::npos) << chart->caption;
  EXPECT_EQ(far_part.table.header.size(), 5u) << "the numbers are there all the same";
  const auto [speed, part] = page_of(2.3);
  EXPECT_EQ(speed.series.size(), 3u);
  EXPECT_EQ(part.series.size(), 2u);
  EXPECT_EQ(speed.caption.find("Not drawn"), std::string::npos);
}

TEST_F(ReportTest, ScalingRowsWithoutEfficiencyAreComparedWithTheFewestGpus) {
  const auto row = [](int gpus, const std::string& layout, double speed) {
    return nlohmann::json{{"layout", layout}, {"gpus", gpus},          {"model", "m"},
                          {"context", 4096},  {"tokens_per_s", speed}, {"kind", "weak"}};
  };
  write_text(folder_ / "s.json",
             nlohmann::json{{"scaling", {row(1, "1x1", 100), row(4, "4x1", 380), row(4, "1x4", 300)}},
                            {"plan", {row(1, "1x1", 100), row(16, "16x1", 1440)}}}
                 .dump());
  const std::vector<ScalingRow> rows = read_scaling(folder_ / "s.json");
  ASSERT_EQ(rows.size(), 5U);
  EXPECT_DOUBLE_EQ(rows[0].efficiency, 1.0);
  EXPECT_DOUBLE_EQ(rows[1].efficiency, 0.95);
  EXPECT_DOUBLE_EQ(rows[2].efficiency, 0.75);
  EXPECT_DOUBLE_EQ(rows[4].efficiency, 0.9);
  const std::vector<Chart> charts = scaling_charts(rows);
  ASSERT_EQ(charts.size(), 2U);
  EXPECT_EQ(charts[0].series.size(), 3U);  // data, sequence, data predicted
  EXPECT_EQ(charts[0].series[0].look.colour, charts[0].series[2].look.colour);
  EXPECT_NE(charts[0].series[0].look.dashes, charts[0].series[2].look.dashes);
  write_text(folder_ / "plan.json",
             nlohmann::json{{"plan", {{"layout", "4x1"}}}, {"scaling", {row(1, "1x1", 100)}}}.dump());
  ASSERT_EQ(read_scaling(folder_ / "plan.json").size(), 1U);
  EXPECT_TRUE(read_scaling(folder_ / "plan.json")[0].predicted) << "the curves of `fwl plan --json`";
  write_text(folder_ / "bad.json", R"({"scaling": [{"gpus": 1, "tokens_per_s": 5, "kind": "wide"}]})");
  EXPECT_THROW(read_scaling(folder_ / "bad.json"), DataError);
}

TEST_F(ReportTest, APlannedCurveIsOneLineWhateverLayoutIsBest) {
  const auto row = [](const char* kind, int gpus, const std::string& layout, double speed) {
    return nlohmann::json{{"layout", layout}, {"gpus", gpus},          {"model", "m"},
                          {"context", 4096},  {"tokens_per_s", speed}, {"kind", kind}};
  };
  nlohmann::json plan = {{"plan", {{"layout", "2x2"}}}, {"scaling", nlohmann::json::array()}};
  for (const char* kind : {"weak", "strong"})
    for (const auto& [gpus, layout, speed] :
         {std::tuple{1, "1x1", 100.0}, {2, "2x1", 190.0}, {4, "2x2", 300.0}, {8, "1x8", 400.0}})
      plan["scaling"].push_back(row(kind, gpus, layout, speed));
  write_text(folder_ / "plan.json", plan.dump());
  write_text(folder_ / "measured.json",
             nlohmann::json{
                 {"scaling",
                  {row("strong", 1, "1x1", 100), row("strong", 2, "2x1", 180), row("strong", 2, "1x2", 170)}}}
                 .dump());
  std::vector<ScalingRow> rows = read_scaling(folder_ / "measured.json");
  for (const ScalingRow& predicted : read_scaling(folder_ / "plan.json")) rows.push_back(predicted);
  const std::vector<Chart> charts = scaling_charts(rows);
  ASSERT_EQ(charts.size(), 4U) << "weak and strong, speed and efficiency";
  EXPECT_EQ(charts[0].series.size(), 2U) << "the plan, and its ideal";
  EXPECT_EQ(charts[0].series[0].y, (std::vector<double>{100, 190, 300, 400}));
  ASSERT_EQ(charts[3].series.size(), 3U) << "measured on each axis, and the plan";
  EXPECT_EQ(charts[3].series[0].y, (std::vector<double>{100, 90}));
  EXPECT_EQ(charts[3].series[1].y, (std::vector<double>{100, 85}));
  EXPECT_EQ(charts[3].series[2].y, (std::vector<double>{100, 95, 75, 50}));
}

TEST_F(ReportTest, TablesQuoteWhatCsvMustQuote) {
  EXPECT_EQ(csv_of({"t", {"a", "b"}, {{"x, \"y\"", 1.5}, {nullptr, 2}}}),
            "a,b\r\n\"x, \"\"y\"\"\",1.5\r\n,2\r\n");
}

TEST_F(ReportTest, AFileOfNoKnownKindIsRefused) {
  write_text(folder_ / "x.json", "{}");
  Report report{"t"};
  EXPECT_THROW(add_input(report, folder_ / "x.json"), DataError);
  EXPECT_THROW(add_input(report, folder_ / "none"), UnavailableError);
}

TEST(Chart, LogarithmicTicksAreRound) {
  std::vector<double> values;
  for (const Tick& tick : ticks_of({ScaleKind::kLogarithmic, 0.5, 30}, 5)) values.push_back(tick.value);
  EXPECT_EQ(values, (std::vector<double>{0.5, 1, 2, 5, 10, 20}));
  EXPECT_EQ(compact_number(65536), "65.5 k");
  EXPECT_EQ(compact_number(0.002), "0.002");
}

TEST(Chart, TicksAreRoundAndInside) {
  for (const auto& [low, high] :
       std::vector<std::pair<double, double>>{{0, 1}, {-3.2, 7.9}, {1e6, 1.7e7}, {2.001, 2.009}}) {
    const std::vector<double> ticks = nice_ticks(low, high, 6);
    ASSERT_GE(ticks.size(), 2u);
    const double step = ticks[1] - ticks[0];
    const double mantissa = step / std::pow(10.0, std::floor(std::log10(step) + 1e-9));
    EXPECT_TRUE(std::abs(mantissa - 1) < 1e-6 || std::abs(mantissa - 2) < 1e-6 ||
                std::abs(mantissa - 5) < 1e-6)
        << mantissa;
    EXPECT_GE(ticks.front(), low - 1e-9 * std::abs(low));
    EXPECT_LE(ticks.back(), high + 1e-9 * std::abs(high));
  }
}

TEST(Chart, SmoothingKeepsAConstantAndAveragesAPeak) {
  EXPECT_EQ(smooth({2, 2, 2, 2}, 1), (std::vector<double>{2, 2, 2, 2}));
  EXPECT_DOUBLE_EQ(smooth({0, 3, 0}, 1)[1], 1.0);
}

}  // namespace
}  // namespace fwl

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
  EXPECT_THROW(read_run(folder_ / "none"), DataError);
  write_text(folder_ / "bad/log.jsonl", "{\"step\": 1}\nnot json\n{\"step\": 3}\n");
  EXPECT_THROW(read_run(folder_ / "bad"), DataError);
  const std::string eval = write_eval("a.json", 2.0, 1000);
  EXPECT_THROW(read_eval_row("a=" + eval + ":fast"), ConfigError);
  EXPECT_THROW(read_eval_row("a=" + (folder_ / "none.json") + ":slow"), DataError);
  EXPECT_THROW(read_eval_row("no mode"), ConfigError);
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

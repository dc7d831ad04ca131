#include "launch/evaluation/reading_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "core/base/error.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

class ReadingPlanTest : public testing::Test {
 protected:
  void SetUp() override {
    Texts texts;
    for (const int64_t length : {333, 1, 50, 0, 97, 7, 24, 25, 48}) {
      texts[cat("document ", texts.size())] = some_text(length, static_cast<uint64_t>(length));
      predictions_ += length;
    }
    write_dataset(folder_ / "set", texts, *make_tokenizer("byte", "", ""), 1000000);
    split_ = std::make_unique<Split>(folder_ / "set");
  }
  ReadingPlan plan(int64_t context, int64_t stride) const {
    ReadingOptions options;
    options.context = context;
    options.stride = stride;
    return ReadingPlan(*split_, options);
  }

  TemporaryFolder folder_;
  std::unique_ptr<Split> split_;
  int64_t predictions_ = 0;
};

// How often every prediction is scored, and that each window's inputs are the ones before its labels.
// `longest`: inputs of a window at most; 0: the context.
void expect_each_once(const ReadingPlan& plan, const std::vector<ReadingUnit>& units, int64_t longest = 0) {
  std::vector<int> times(static_cast<size_t>(plan.tokens()), 0);
  for (const ReadingUnit& unit : units) {
    for (const auto& row : unit) {
      for (const Window& window : row) {
        const PlannedDocument& d = plan.documents()[static_cast<size_t>(window.document)];
        EXPECT_GT(window.count, 0);
        EXPECT_LE(window.inputs(), longest > 0 ? longest : plan.options().context);
        EXPECT_EQ(window.first + window.overlap - d.first_token, window.slot - d.slot);
        EXPECT_GE(window.first, d.first_token);
        for (int64_t i = 0; i < window.count; ++i) ++times.at(static_cast<size_t>(window.slot + i));
      }
    }
  }
  for (size_t i = 0; i < times.size(); ++i) ASSERT_EQ(times[i], 1) << "prediction " << i;
}

TEST_F(ReadingPlanTest, EveryTokenIsScoredExactlyOnce) {
  for (const auto& [context, stride] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {24, 0}, {24, 24}, {24, 7}, {24, 1}, {25, 24}, {1000, 3}}) {
    const ReadingPlan p = plan(context, stride);
    EXPECT_EQ(p.tokens(), predictions_);
    for (const auto overlap : {ReadingPlan::Overlap::kRead, ReadingPlan::Overlap::kSkip}) {
      for (const int64_t rows : {1, 3}) expect_each_once(p, p.by_document(rows, overlap));
      for (const int64_t streams : {1, 2, 5, 100}) expect_each_once(p, p.by_stream(streams, overlap));
    }
    for (const int64_t rows : {1, 3}) expect_each_once(p, p.by_window(rows));
  }
}

TEST_F(ReadingPlanTest, LaterWindowsHaveTheContextBeforeThem) {
  for (const Window& window : plan(24, 7).windows(ReadingPlan::Overlap::kRead))
    EXPECT_TRUE(window.overlap == 17 ? window.count <= 7 : window.overlap == 0 && window.count <= 24);
}

TEST_F(ReadingPlanTest, WindowsFollowOneAnotherWithinARow) {
  const ReadingPlan p = plan(24, 7);
  for (const ReadingUnit& unit : p.by_document(3, ReadingPlan::Overlap::kSkip)) {
    EXPECT_LE(unit.size(), 3u);
    for (size_t r = 0; r < unit.size(); ++r) {
      EXPECT_LE(unit[r].size(), unit[r == 0 ? 0 : r - 1].size()) << "rows that end leave from the back";
      for (size_t w = 1; w < unit[r].size(); ++w)
        EXPECT_EQ(unit[r][w].slot, unit[r][w - 1].slot + unit[r][w - 1].count);
    }
  }
  const std::vector<ReadingUnit> streams = p.by_stream(3, ReadingPlan::Overlap::kRead);
  EXPECT_GT(streams.size(), 1u);
  for (const ReadingUnit& unit : streams)
    for (size_t w = 1; w < unit[0].size(); ++w) EXPECT_GT(unit[0][w].slot, unit[0][w - 1].slot);
}

// Follows a row: where its state begins, and that it learns from `tokens` at most.
void expect_begins(const ReadingUnit& unit, const Carry& carry) {
  for (const auto& row : unit) {
    int64_t learned = 0, document = row.front().document;
    for (size_t w = 0; w < row.size(); ++w) {
      EXPECT_TRUE(row[w].begins || w > 0);
      EXPECT_EQ(row[w].begins, unit.front()[w].begins) << "the rows of a batch begin together";
      EXPECT_TRUE(row[w].begins || carry.scope == Carry::Scope::kStream || row[w].document == document);
      learned = row[w].begins ? row[w].count : learned + row[w].count;
      document = row[w].document;
      EXPECT_TRUE(carry.tokens == 0 || learned <= carry.tokens);
    }
  }
}

TEST_F(ReadingPlanTest, CarriedStatesBeginWithDocumentsAndAfterTheirTokens) {
  using Overlap = ReadingPlan::Overlap;
  for (const auto& [stride, tokens] :
       std::vector<std::pair<int64_t, int64_t>>{{24, 24}, {24, 72}, {7, 48}, {24, 0}}) {
    const ReadingPlan p = plan(24, stride);
    for (const auto scope : {Carry::Scope::kDocument, Carry::Scope::kStream}) {
      const int64_t rows = scope == Carry::Scope::kStream ? 1 : 3;
      std::vector<ReadingUnit> units =
          rows == 1 ? p.by_stream(2, Overlap::kRead) : p.by_document(rows, Overlap::kRead);
      mark_begins(units, {scope, tokens}, 24);
      for (const ReadingUnit& unit : units) expect_begins(unit, {scope, tokens});
      const std::vector<ReadingUnit> pieces = cut_at_begins(units, rows);
      expect_each_once(p, pieces);
      for (const ReadingUnit& unit : pieces) {
        EXPECT_LE(unit.size(), static_cast<size_t>(rows));
        for (size_t r = 0; r < unit.size(); ++r) {
          EXPECT_EQ(unit[r].front().overlap, unit.front().front().overlap);
          EXPECT_LE(unit[r].size(), unit[r == 0 ? 0 : r - 1].size());
          for (size_t w = 0; w < unit[r].size(); ++w) EXPECT_EQ(unit[r][w].begins, w == 0);
        }
      }
    }
  }
}

TEST_F(ReadingPlanTest, LongWindowsHoldAsManyInputsAsABatchOfContexts) {
  const ReadingPlan p = plan(4, 0);
  int64_t longest = 0;
  for (const PlannedDocument& d : p.documents()) longest = std::max(longest, d.predictions);
  for (const auto& [rows, contexts] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {4, 1}, {4, 2}, {4, 4}, {64, 64}, {128, 128}}) {
    std::vector<ReadingUnit> units = p.by_long_window(rows, 4 * contexts);
    expect_each_once(p, units, 4 * contexts);
    bool has_several = false, is_full = false;
    for (const ReadingUnit& unit : units) {
      EXPECT_LE(unit.size(), static_cast<size_t>(rows));
      EXPECT_LE(static_cast<int64_t>(unit.size()) * unit.front().front().inputs(), 4 * rows);
      is_full = is_full || static_cast<int64_t>(unit.size()) * unit.front().front().inputs() == 4 * rows;
      for (size_t r = 0; r < unit.size(); ++r) {
        has_several = has_several || unit[r].size() > 1;
        EXPECT_LE(unit[r].size(), unit[r == 0 ? 0 : r - 1].size());
        for (size_t w = 0; w + 1 < unit[r].size(); ++w) EXPECT_EQ(unit[r][w].count, 4 * contexts);
      }
    }
    EXPECT_EQ(has_several, longest > 4 * contexts);
    EXPECT_TRUE(is_full || rows > 4);
    mark_begins(units, {Carry::Scope::kDocument, 4 * contexts}, 4 * contexts);
    for (const ReadingUnit& unit : units) expect_begins(unit, {Carry::Scope::kDocument, 4 * contexts});
  }
}

TEST_F(ReadingPlanTest, RanksGetAboutAsMuchToRead) {
  const ReadingPlan p = plan(24, 0);
  const std::vector<ReadingUnit> units = p.by_window(1);
  for (const int ranks : {1, 2, 3, 7}) {
    std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
    const std::vector<int> owner = share_out(units, ranks);
    for (size_t i = 0; i < units.size(); ++i)
      load[static_cast<size_t>(owner[i])] += units[i].front().front().inputs();
    EXPECT_EQ(std::accumulate(load.begin(), load.end(), int64_t{0}), predictions_);
    EXPECT_LE(*std::max_element(load.begin(), load.end()) - *std::min_element(load.begin(), load.end()), 24);
  }
}

TEST_F(ReadingPlanTest, AStrideAboveTheContextIsRefused) {
  EXPECT_THROW(plan(24, 25), ConfigError);
}

TEST_F(ReadingPlanTest, SpreadDocumentsComeFromTheWholeSplit) {
  ReadingOptions options;
  options.context = 24;
  options.max_documents = 3;
  options.spread = true;
  const ReadingPlan p(*split_, options);
  ASSERT_EQ(p.documents().size(), 3u);
  EXPECT_EQ(p.documents()[0].index, 0);
  EXPECT_EQ(p.documents()[1].index, 3);
  EXPECT_EQ(p.documents()[2].index, 6);
}

}  // namespace
}  // namespace fwl

// The global sequence of samples over stops, layouts and mixtures; prefetching; damaged data left out.
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/hdf5.h"
#include "data/loader.h"
#include "data/prefetcher.h"
#include "data/sample_order.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

TEST(Mixture, EverySampleHasOnePlaceAndEveryPartCountsItsOwn) {
  const std::vector<int64_t> weights = {700'000, 50'000, 250'000};
  std::vector<int64_t> next(weights.size(), 0);
  for (int64_t s = 0; s < 20'000; ++s) {
    const MixturePlace place = mixture_place(weights, s);
    EXPECT_EQ(place.index, next[place.part]++);
  }
  EXPECT_EQ(next, (std::vector<int64_t>{14'000, 1'000, 5'000}));
}

TEST(Mixture, ProportionsAreExactOverAnyStretch) {
  const std::vector<int64_t> weights = {3, 1, 2, 7};
  const int64_t sum = 13;
  for (const int64_t begin : {int64_t{0}, int64_t{77}, int64_t{1'000'000'007}, int64_t{1} << 61}) {
    std::vector<int64_t> counts(weights.size(), 0);
    for (int64_t n = 0; n < 1000; ++n) ++counts[mixture_place(weights, begin + n).part];
    for (size_t k = 0; k < weights.size(); ++k) {
      EXPECT_NEAR(static_cast<double>(counts[k]), 1000.0 * static_cast<double>(weights[k]) / sum, 4.0)
          << "part " << k << " from " << begin;
    }
  }
}

class OrderTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 12; ++i) {
      texts_["a" + std::to_string(i)] = some_text(150 + 40 * i, static_cast<uint64_t>(i));
      others_["b" + std::to_string(i)] = some_text(300, static_cast<uint64_t>(100 + i));
    }
    write_dataset(folder_ / "a", texts_, *tokenizer_, 500);
    write_dataset(folder_ / "b", others_, *tokenizer_, 700);
  }
  TemporaryFolder folder_;
  Texts texts_, others_;
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
};

// A run as training makes it: steps of `kBatch` samples, each rank a contiguous share of the rows (layout:
// ranks that read different rows) or of the positions, stopped at random steps and gone on with in another
// layout. All that goes from one part to the next is the position and the rolling hash.
TEST_F(OrderTest, StopsAndOtherLayoutsContinueTheSameSequence) {
  constexpr int64_t kBatch = 12, kContext = 16, kSteps = 60;
  struct Layout {
    int64_t data, sequence;
  };
  const std::vector<Layout> layouts = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {2, 2}, {1, 4}};
  const Split a(folder_ / "a"), b(folder_ / "b");
  const Loader whole({{&a, 0.6}, {&b, 0.4}}, kContext, 5);
  for (uint64_t run = 0; run < 8; ++run) {
    std::vector<int64_t> consumed;  // ids, as the ranks read them
    std::vector<std::vector<int64_t>> rows(static_cast<size_t>(kBatch * kSteps));
    int64_t samples = 0;
    uint64_t hash = 0, draw = mix_bits(run);
    while (samples < kBatch * kSteps) {
      draw = mix_bits(draw);
      const Layout layout = layouts[draw % layouts.size()];
      const int64_t stop =
          std::min<int64_t>(kBatch * kSteps, samples + kBatch * static_cast<int64_t>(1 + draw / 64 % 20));
      EXPECT_EQ(hash, Loader({{&a, 0.6}, {&b, 0.4}}, kContext, 5).rolling_hash(0, 0, samples));
      for (int64_t rank = 0; rank < layout.data * layout.sequence; ++rank) {
        const Split own_a(folder_ / "a"), own_b(folder_ / "b");
        const Loader loader({{&own_a, 0.6}, {&own_b, 0.4}}, kContext, 5);
        const int64_t share = kBatch / layout.data, length = kContext / layout.sequence;
        for (int64_t at = samples; at < stop; at += kBatch) {
          const int64_t first = at + rank / layout.sequence * share, chunk = rank % layout.sequence;
          const Batch batch = loader.read(first, share, chunk * length, length);
          for (int64_t r = 0; r < share; ++r) {
            if (chunk == 0) consumed.push_back(first + r);
            auto& row = rows[static_cast<size_t>(first + r)];
            row.insert(row.end(), batch.tokens.begin() + r * (length + 1),
                       batch.tokens.begin() + r * (length + 1) + length);
          }
        }
      }
      hash = whole.rolling_hash(hash, samples, stop - samples);
      samples = stop;
    }
    std::sort(consumed.begin(), consumed.end());
    std::vector<int64_t> every(static_cast<size_t>(kBatch * kSteps));
    std::iota(every.begin(), every.end(), 0);
    EXPECT_EQ(consumed, every);
    for (int64_t s = 0; s < kBatch * kSteps; ++s) {
      const Batch direct = whole.read(s, 1);
      EXPECT_EQ(rows[static_cast<size_t>(s)],
                std::vector<int64_t>(direct.tokens.begin(), direct.tokens.end() - 1));
    }
  }
}

TEST_F(OrderTest, TheRollingHashTellsOrdersApart) {
  const Split a(folder_ / "a"), b(folder_ / "b");
  const uint64_t hash = Loader(a, 16, 1).rolling_hash(0, 0, 100);
  EXPECT_EQ(hash, Loader(a, 16, 1).rolling_hash(Loader(a, 16, 1).rolling_hash(0, 0, 40), 40, 60));
  EXPECT_NE(hash, Loader(a, 16, 2).rolling_hash(0, 0, 100));
  EXPECT_NE(hash, Loader(b, 16, 1).rolling_hash(0, 0, 100));
  EXPECT_NE(hash, Loader({{&a, 1.0}, {&b, 1.0}}, 16, 1).rolling_hash(0, 0, 100));
  EXPECT_NE(hash, Loader(a, 16, 1, 4).rolling_hash(0, 0, 100));
}

TEST_F(OrderTest, AMixtureReadsEachDataSetInItsOwnOrder) {
  const Split a(folder_ / "a"), b(folder_ / "b");
  const Loader mixed({{&a, 3}, {&b, 1}}, 16, 1), only_a(a, 16, 1), only_b(b, 16, 1);
  int64_t next_a = 0, next_b = 0;
  for (int64_t s = 0; s < 200; ++s) {
    const bool from_a = mixture_place({3, 1}, s).part == 0;
    const Batch expected = from_a ? only_a.read(next_a++, 1) : only_b.read(next_b++, 1);
    EXPECT_EQ(mixed.read(s, 1).tokens, expected.tokens) << s;
  }
  EXPECT_THROW(Loader({{&a, 0.0}}, 16, 1), ConfigError);
  EXPECT_THROW(Loader({{&a, -1.0}, {&b, 1.0}}, 16, 1), ConfigError);
}

TEST_F(OrderTest, DamagedDataStopsOrIsLeftOutDocumentByDocument) {
  // One shard whose documents span several chunks; one byte in the middle of one chunk is damaged.
  Texts texts;
  for (int i = 0; i < 10; ++i) texts["d" + std::to_string(i)] = some_text(5000, static_cast<uint64_t>(i));
  const Manifest manifest = write_dataset(folder_ / "big", texts, *tokenizer_, 1'000'000);
  std::vector<Batch> expected;
  {
    const Split sound(folder_ / "big", 0);
    const Loader reference(sound, 64, 3);
    for (int64_t i = 0; i < reference.windows_per_epoch(); ++i) expected.push_back(reference.read(i, 1));
  }
  const std::string path = folder_ / "big/train/shard-00000.h5";
  std::string content = read_file(path, "shard");
  {
    const Hdf5Chunk chunk = Hdf5File::open(path, "shard").chunks("tokens").at(10);
    content[static_cast<size_t>(chunk.file_offset + chunk.bytes / 2)] ^= 1;
  }
  write_text(path, content);
  // Chunk 10 holds tokens 20480 to 22527: of document 4 (20004 to 25004) alone.
  {
    const Split split(folder_ / "big", 0);
    const Loader stops(split, 64, 3);
    EXPECT_THROW(
        {
          for (int64_t s = 0; s < stops.windows_per_epoch(); ++s) stops.read(s, 1);
        },
        DataError);
  }
  const Split again(folder_ / "big", 0);
  const Loader loader({{&again, 1.0}}, 64, 3, BadData::kLeaveOut);
  int64_t left_out = 0;
  for (int64_t s = 0; s < loader.windows_per_epoch(); ++s) {
    const Batch batch = loader.read(s, 1);
    const int64_t first = loader.first_token_of(s);
    for (int64_t t = 0; t < 64; ++t) {
      const bool out = !batch.left_out.empty() && batch.left_out[static_cast<size_t>(t)] != 0;
      left_out += out ? 1 : 0;
      const bool in_damaged = first + t + 1 >= 20004 && first + t < 25005;
      if (out) {
        EXPECT_TRUE(in_damaged) << first + t;
        continue;
      }
      EXPECT_EQ(batch.tokens[static_cast<size_t>(t)],
                expected[static_cast<size_t>(s)].tokens[static_cast<size_t>(t)]);
      EXPECT_EQ(batch.tokens[static_cast<size_t>(t + 1)],
                expected[static_cast<size_t>(s)].tokens[static_cast<size_t>(t + 1)]);
    }
  }
  EXPECT_EQ(loader.documents_left_out(), 1);
  EXPECT_GE(left_out, 2048);
}

TEST(Prefetcher, GivesItemsInOrderAndNeverRunsFarAhead) {
  std::atomic<int64_t> made = 0;
  Prefetcher<int64_t> prefetcher([&](int64_t k) { return made = k + 1, k; }, 3);
  for (int64_t k = 0; k < 200; ++k) {
    EXPECT_EQ(prefetcher.next(), k);
    EXPECT_LE(made, k + 5);
  }
}

TEST(Prefetcher, RethrowsInTheConsumerAfterTheGoodItems) {
  Prefetcher<int64_t> prefetcher(
      [](int64_t k) {
        require<DataError>(k < 2, "item ", k);
        return k;
      },
      4);
  EXPECT_EQ(prefetcher.next(), 0);
  EXPECT_EQ(prefetcher.next(), 1);
  EXPECT_THROW(prefetcher.next(), DataError);
  EXPECT_THROW(prefetcher.next(), DataError);
}

TEST(SampleOrderMemory, ATrillionTokensNeedNoMoreMemoryThanAMillion) {
  // Nothing is stored: positions far out cost the same few instructions, and stay a permutation.
  const int64_t windows = 1'000'000'000'000 / 1024;
  std::set<int64_t> seen;
  for (int64_t i = 0; i < 1000; ++i) seen.insert(window_of(1, 0, windows - 1 - i, windows));
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_LT(*seen.rbegin(), windows);
}

}  // namespace
}  // namespace fwl

// The global sequence of samples over stops, layouts and mixtures; prefetching; damaged data left out.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
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
  // As training makes it: steps of `batch` samples, each rank a contiguous share of the rows (layout: ranks
  // that read different rows) or of the positions, stopped at random steps and gone on with in another
  // layout. All that goes from one part to the next is the position and the rolling hash.
  void expect_the_same_sequence(const std::function<Loader(const Split&, const Split&)>& make,
                                uint64_t run) const {
    constexpr int64_t kBatch = 12, kContext = 16, kSteps = 60;
    struct Layout {
      int64_t data, sequence;
    };
    const std::vector<Layout> layouts = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {2, 2}, {1, 4}};
    const Split a(folder_ / "a"), b(folder_ / "b");
    const Loader whole = make(a, b);
    std::vector<int64_t> consumed;  // ids, as the ranks read them
    std::vector<std::vector<int64_t>> rows(static_cast<size_t>(kBatch * kSteps));
    int64_t samples = 0;
    uint64_t hash = 0, draw = mix_bits(run);
    while (samples < kBatch * kSteps) {
      draw = mix_bits(draw);
      const Layout layout = layouts[draw % layouts.size()];
      const int64_t stop =
          std::min<int64_t>(kBatch * kSteps, samples + kBatch * static_cast<int64_t>(1 + draw / 64 % 20));
      EXPECT_EQ(hash, make(a, b).rolling_hash(0, 0, samples));
      for (int64_t rank = 0; rank < layout.data * layout.sequence; ++rank) {
        const Split own_a(folder_ / "a"), own_b(folder_ / "b");
        const Loader loader = make(own_a, own_b);
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
  TemporaryFolder folder_;
  Texts texts_, others_;
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
};

TEST_F(OrderTest, StopsAndOtherLayoutsContinueTheSameSequence) {
  const auto mixture = [](const Split& a, const Split& b) { return Loader({{&a, 0.6}, {&b, 0.4}}, 16, 5); };
  for (uint64_t run = 0; run < 8; ++run) expect_the_same_sequence(mixture, run);
}

TEST_F(OrderTest, DocumentsContinueTheSameSequenceOverStopsAndLayouts) {
  const auto documents = [](const Split& a, const Split&) {
    return Loader(a, 16, 5, 12, BadData::kStop, StreamOrder::kDocuments);
  };
  for (uint64_t run = 0; run < 8; ++run) expect_the_same_sequence(documents, run);
}

// Each stream's windows, put together, are whole documents, and an epoch deals each document once.
TEST_F(OrderTest, StreamsReadWholeDocumentsAndEachOncePerEpoch) {
  constexpr int64_t kStreams = 4, kContext = 16;
  texts_["empty"] = "";
  texts_["one"] = "x";
  texts_["exact"] = some_text(kContext, 7);
  write_dataset(folder_ / "a", texts_, *tokenizer_, 500);
  for (const int64_t in_memory : {int64_t{0}, int64_t{1} << 20}) {
    const Split split(folder_ / "a", in_memory);
    const Loader loader(split, kContext, 3, kStreams, BadData::kStop, StreamOrder::kDocuments);
    const int64_t documents = split.num_documents();  // 15: the streams do not divide them
    int64_t labels = 0, read_labels = 0;
    std::vector<int64_t> step(kStreams, 0);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      for (int64_t index = 0; index < documents; ++index) {
        const int64_t stream = (epoch * documents + index) % kStreams;
        const Document document = split.document(window_of(3, epoch, index, documents));
        std::vector<int64_t> text(static_cast<size_t>(document.num_tokens)), got;
        split.read_tokens(document.first_token, document.num_tokens, text.data());
        while (document.num_tokens > 1 && static_cast<int64_t>(got.size()) < document.num_tokens - 1) {
          const int64_t sample = step[static_cast<size_t>(stream)]++ * kStreams + stream;
          const Batch batch = loader.read(sample, 1);
          EXPECT_EQ(batch.document_start[0], got.empty() ? 1 : 0);
          labels += loader.labels_in(sample, 1);
          for (size_t t = 0; t < static_cast<size_t>(kContext); ++t) {
            EXPECT_TRUE(t == 0 || batch.document_start[t] == 0);
            if (!batch.left_out.empty() && batch.left_out[t] != 0) continue;
            ASSERT_LT(got.size() + 1, text.size());
            EXPECT_EQ(batch.tokens[t + 1], text[got.size() + 1]);
            got.push_back(batch.tokens[t]);
            ++read_labels;
          }
        }
        if (document.num_tokens > 1) {
          text.pop_back();
          EXPECT_EQ(got, text) << document.name;
        }
      }
    }
    EXPECT_EQ(labels, read_labels);
    EXPECT_EQ(labels, 3 * (split.num_tokens() - documents));
  }
}

TEST_F(OrderTest, DocumentsOfOtherSeedsAndOrdersHaveOtherHashes) {
  const Split a(folder_ / "a");
  const auto loader = [&](uint64_t seed, StreamOrder order) {
    return Loader(a, 16, seed, 4, BadData::kStop, order);
  };
  const Loader documents = loader(1, StreamOrder::kDocuments);
  const auto expect_different = [&](const Loader& other) {
    EXPECT_NE(documents.rolling_hash(0, 0, 100), other.rolling_hash(0, 0, 100));
    EXPECT_NE(documents.sequence_hash(), other.sequence_hash());
  };
  expect_different(loader(2, StreamOrder::kDocuments));
  expect_different(loader(1, StreamOrder::kPacked));
}

// What a resume does with documents: cursors from a checkpoint, not a walk from the start.
TEST_F(OrderTest, CursorsContinueTheSameSequenceOfDocuments) {
  constexpr int64_t kStreams = 4;
  texts_["empty"] = "";
  write_dataset(folder_ / "a", texts_, *tokenizer_, 500);
  const Split split(folder_ / "a");
  const auto make = [&] { return Loader(split, 16, 3, kStreams, BadData::kStop, StreamOrder::kDocuments); };
  const Loader whole = make();
  for (int64_t step = 0; step < 400; step += 7) {
    Loader resumed = make();
    resumed.go_on_from(whole.cursors_at(step * kStreams));
    EXPECT_EQ(resumed.cursors_at(step * kStreams), whole.cursors_at(step * kStreams));
    EXPECT_EQ(resumed.rolling_hash(1, step * kStreams, 100), make().rolling_hash(1, step * kStreams, 100));
    EXPECT_EQ(resumed.labels_in(step * kStreams, 100), make().labels_in(step * kStreams, 100));
    EXPECT_EQ(resumed.document_of(step * kStreams + 3), make().document_of(step * kStreams + 3));
  }
}

// No walk could come this far: 10^12 documents are behind these cursors.
TEST_F(OrderTest, CursorsTakeNoLongerHoweverFarTheRunIs) {
  constexpr int64_t kStreams = 3, kDealt = 1'000'000'000'000, kWindow = 3'000'000'000'000;
  const Split split(folder_ / "a");
  Loader loader(split, 16, 3, kStreams, BadData::kStop, StreamOrder::kDocuments);
  loader.go_on_from({kStreams, DocumentCursor{kDealt, kWindow}});
  const int64_t ordinal = (kDealt - 1) * kStreams + 1, documents = split.num_documents();
  EXPECT_EQ(loader.document_of(kWindow * kStreams + 1),
            window_of(3, ordinal / documents, ordinal % documents, documents));
  EXPECT_EQ(loader.read(kWindow * kStreams, kStreams).document_start[0], 1);
}

TEST_F(OrderTest, CursorsOfOtherOrdersAreRefused) {
  texts_["empty"] = "";
  write_dataset(folder_ / "a", texts_, *tokenizer_, 500);
  const Split split(folder_ / "a");
  Loader loader(split, 16, 3, 2, BadData::kStop, StreamOrder::kDocuments);
  const auto expect_refused = [&](const std::vector<DocumentCursor>& cursors) {
    EXPECT_THROW(loader.go_on_from(cursors), DataError);
  };
  expect_refused({{1, 0}});
  expect_refused({{1, 0}, {0, 0}});
  expect_refused({{1, 0}, {-1, 0}});
  expect_refused({{1, 0}, {INT64_MAX, 0}});
  expect_refused({{1, -1}, {1, 0}});
  const int64_t documents = split.num_documents();
  int64_t empty = 0;  // the ordinal of stream 0 that is the document without labels
  while (split.document(window_of(3, empty / documents, empty % documents, documents)).name != "empty")
    empty += 2;
  expect_refused({{empty / 2 + 1, 0}, {1, 0}});
}

// One of three shards loses its index: its documents are not dealt, all others are read as before.
TEST_F(OrderTest, DocumentsOfADamagedIndexAreLeftOutOrStop) {
  constexpr int64_t kStreams = 3, kContext = 16, kEpochs = 4;
  Texts texts;
  for (int i = 0; i < 9; ++i) texts["d" + std::to_string(i)] = some_text(100, static_cast<uint64_t>(i));
  write_dataset(folder_ / "c", texts, *tokenizer_, 300);
  const std::string path = folder_ / "c/train/shard-00001.h5";
  std::string content = read_file(path, "shard");
  {
    const Hdf5Chunk chunk = Hdf5File::open(path, "shard").chunks("documents/offsets").at(0);
    content[static_cast<size_t>(chunk.file_offset + chunk.bytes / 2)] ^= 1;
  }
  write_text(path, content);
  for (const int64_t in_memory : {int64_t{0}, int64_t{1} << 20}) {
    const Split split(folder_ / "c", in_memory);
    ASSERT_EQ(split.manifest().splits.at("train").shards.size(), 3u);
    const auto make = [&](BadData bad) {
      return Loader(split, kContext, 3, kStreams, bad, StreamOrder::kDocuments);
    };
    const int64_t samples = kStreams * kEpochs * 2 * 7;  // 6 documents of 7 windows are left of an epoch's 9
    EXPECT_NE(message_of<DataError>([&] {
                make(BadData::kStop).rolling_hash(0, 0, samples);
              }).find("shard-00001.h5"),
              std::string::npos);
    const Loader loader = make(BadData::kLeaveOut);
    std::map<int64_t, int64_t> windows_of_document;
    for (int64_t s = 0; s < samples; ++s) {
      const Batch batch = loader.read(s, 1);
      ++windows_of_document[loader.document_of(s)];
      const int64_t first = loader.first_token_of(s), labels = loader.labels_in(s, 1);
      std::vector<int64_t> expected(static_cast<size_t>(labels) + 1);
      split.read_tokens(first, labels + 1, expected.data());
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), batch.tokens.begin())) << s;
    }
    EXPECT_EQ(loader.documents_left_out(), 3);
    ASSERT_EQ(windows_of_document.size(), 6u);
    for (const auto& [document, windows] : windows_of_document) {
      EXPECT_TRUE(document < 3 || document >= 6) << document;
    }
    Loader resumed = make(BadData::kLeaveOut);
    resumed.go_on_from(loader.cursors_at(samples / 2));
    EXPECT_EQ(resumed.rolling_hash(0, samples / 2, samples / 2),
              make(BadData::kLeaveOut).rolling_hash(0, samples / 2, samples / 2));
  }
}

TEST_F(OrderTest, ASplitWithoutAnySoundIndexStops) {
  for (const char* shard : {"a/train/shard-00000.h5", "a/train/shard-00001.h5", "a/train/shard-00002.h5",
                            "a/train/shard-00003.h5", "a/train/shard-00004.h5", "a/train/shard-00005.h5",
                            "a/train/shard-00006.h5", "a/train/shard-00007.h5"})
    if (std::filesystem::exists(folder_ / shard)) write_text(folder_ / shard, "nothing");
  const Split split(folder_ / "a", 0);
  const Loader loader(split, 16, 3, 2, BadData::kLeaveOut, StreamOrder::kDocuments);
  EXPECT_NE(message_of<DataError>([&] { loader.read(0, 2); }).find("no shard left"), std::string::npos);
}

// A stream of packed text says of which document it goes on, unless a damaged index does not tell.
TEST_F(OrderTest, PackedStreamsGoOnWithoutTheNameOfADocument) {
  write_text(folder_ / "a/train/shard-00000.h5", "nothing");
  const Split split(folder_ / "a", 0);
  const Loader stops(split, 16, 3, 1), goes_on(split, 16, 3, 1, BadData::kLeaveOut);
  const int64_t windows = split.num_tokens() / 16;
  int64_t unknown = 0;
  for (int64_t s = 0; s < windows; ++s) unknown += goes_on.document_of(s) == -1 ? 1 : 0;
  EXPECT_GT(unknown, 0);
  EXPECT_LT(unknown, windows);
  EXPECT_THROW(
      {
        for (int64_t s = 0; s < windows; ++s) stops.document_of(s);
      },
      DataError);
}

TEST_F(OrderTest, DocumentsWithoutTextAreRefused) {
  write_dataset(folder_ / "none", {{"a", ""}, {"b", ""}, {"c", ""}, {"d", ""}}, *tokenizer_, 1000);
  const Split split(folder_ / "none");
  EXPECT_THROW(Loader(split, 2, 1, 2, BadData::kStop, StreamOrder::kDocuments), DataError);
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

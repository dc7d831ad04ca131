#include "data/dataset_builder.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <memory>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "data/dataset.h"
#include "data/dataset_check.h"
#include "data/dataset_text.h"
#include "data/tokenizer_training.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// Bytes of every kind: words, spaces, newlines, NUL, UTF-8 and what is none.
std::string any_bytes(uint64_t seed, size_t length) {
  static const std::vector<std::string> parts = {
      "word", " ",        "\n",  "    ", "\n\n", "\t", "\xC3\xA9", "\xE2\x96\x81", std::string(1, '\0'),
      "\xFF", "\xE2\x82", "<s>", "\r\n", "def x"};
  std::string text;
  for (uint64_t i = 0; text.size() < length; ++i) {
    const uint64_t r = mix_bits(seed * 1000003 + i);
    text += r % 5 == 0 ? std::string(1, static_cast<char>(r >> 8)) : parts[r / 7 % parts.size()];
  }
  return text.substr(0, length);
}

class DatasetBuilderTest : public testing::Test {
 protected:
  void SetUp() override {
    for (uint64_t i = 0; i < 40; ++i)
      write_text(folder_ / cat("text/d", i % 3, "/f", i, ".txt"), any_bytes(i, mix_bits(i) % 3000));
    files_ = find_documents({folder_ / "text"}, {});
    options_.shard_tokens = 4000;
    options_.ranges = parse_splits("valid=0.3");
    options_.threads = 2;
  }
  BuildResult build(const std::string& out, const Tokenizer& tokenizer = *make_byte_tokenizer()) {
    options_.out = folder_ / out;
    return build_dataset(files_, tokenizer, options_);
  }
  // File names and contents of everything in the folder.
  std::map<std::string, std::string> content(const std::string& dir) {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / dir)) {
      if (entry.is_regular_file())
        found[entry.path().lexically_relative(folder_ / dir).string()] =
            read_file(entry.path().string(), "file");
    }
    return found;
  }
  TemporaryFolder folder_;
  std::vector<DocumentFile> files_;
  BuildOptions options_;
};

TEST_F(DatasetBuilderTest, TheDocumentsComeBackByteForByte) {
  TokenizerTraining training;
  training.vocab_size = 480;
  write_text(folder_ / "plain/a.txt",
             std::string(20000, 'a') + " some words to learn from, word def x\n    y");
  const std::string model =
      train_sentencepiece(find_documents({folder_ / "text", folder_ / "plain"}, {}), training);
  for (const auto& tokenizer : {make_tokenizer("sentencepiece", model, "test"), make_byte_tokenizer()}) {
    const std::string out = cat("ds-", tokenizer->kind());
    build(out, *tokenizer);
    const DatasetCheck check = check_dataset(folder_ / out);
    EXPECT_TRUE(check.problems.empty()) << check.problems[0].dataset << ": " << check.problems[0].problem;
    for (const char* split : {"train", "valid"})
      write_documents(Split(folder_ / (out + "/" + split)), folder_ / ("back-" + out));
    EXPECT_EQ(content("back-" + out), content("text"));
  }
}

TEST_F(DatasetBuilderTest, ThreadsAndGroupsAndRanksDoNotChangeTheDataSet) {
  options_.group_bytes = 10'000;
  options_.threads = 1;
  build("one");
  options_.threads = 4;
  build("four");
  EXPECT_EQ(content("one"), content("four"));
  // Ranks one after the other; the barriers between them are no waiting then, but the order is kept.
  options_.ranks = 3;
  options_.out = folder_ / "ranks";
  struct Stop {};
  for (const int rank : {0, 1, 2}) {
    options_.rank = rank;
    options_.barrier = [] { throw Stop(); };  // before the first rank finishes
    EXPECT_THROW(build_dataset(files_, *make_byte_tokenizer(), options_), Stop);
  }
  options_.rank = 0;
  options_.barrier = [] {};
  EXPECT_GT(build_dataset(files_, *make_byte_tokenizer(), options_).shards_kept, 0);
  EXPECT_EQ(content("one"), content("ranks"));
}

TEST_F(DatasetBuilderTest, AKilledBuildGoesOnAndGivesTheSameBytes) {
  build("whole");
  options_.bytes_in_flight = 1;
  struct Killed {};
  for (const int64_t stop_at : {int64_t{1}, int64_t{9'000}, int64_t{20'000}, int64_t{40'000}}) {
    fs::remove_all(folder_ / "killed");
    options_.on_progress = [&](const BuildProgress& p) {
      if (p.source_bytes >= stop_at) throw Killed();
    };
    EXPECT_THROW(build("killed"), Killed);
    EXPECT_FALSE(fs::exists(folder_ / "killed/manifest.json"));
    write_text(folder_ / "killed/train/shard-g00000-open.tmp-1", "left behind by a killed process");
    write_text(folder_ / "killed/journal-00000.json.tmp-1", "left behind by a killed process");
    write_text(folder_ / "killed/manifest.json.tmp-1", "left behind by a killed process");
    options_.on_progress = [](const BuildProgress&) {};
    const BuildResult result = build("killed");
    EXPECT_EQ(content("killed"), content("whole")) << "stopped at " << stop_at;
    if (stop_at == 40'000) {
      EXPECT_GT(result.shards_kept, 2);
      EXPECT_LT(result.progress.text_bytes, 45'000);
    }
  }
}

TEST_F(DatasetBuilderTest, ABuildKilledAfterItsManifestIsFinishedByTheSameCommand) {
  struct Killed {};
  options_.on_progress = [](const BuildProgress&) { throw Killed(); };
  EXPECT_THROW(build("killed"), Killed);
  const std::string journal = read_file(folder_ / "killed/journal.json", "journal");
  options_.on_progress = [](const BuildProgress&) {};
  build("killed");
  const auto whole = content("killed");
  write_text(folder_ / "killed/journal.json", journal);
  write_text(folder_ / "killed/journal-00000.json", "not read any more");
  EXPECT_EQ(build("killed").manifest.splits.size(), 2);
  EXPECT_EQ(content("killed"), whole);
  EXPECT_THROW(build("killed"), ConfigError) << "a finished data set is not written again";
}

// One with a shard, that is: there is nothing to lose in another.
TEST_F(DatasetBuilderTest, OtherOptionsDoNotGoOnWithAnUnfinishedDataSet) {
  options_.bytes_in_flight = 1;
  struct Killed {};
  options_.on_progress = [&](const BuildProgress& p) {
    if (p.source_bytes >= 30'000) throw Killed();
  };
  EXPECT_THROW(build("killed"), Killed);
  options_.on_progress = [](const BuildProgress&) {};
  options_.shard_tokens = 5000;
  EXPECT_THROW(build("killed"), ConfigError);
  options_.existing = ExistingDataset::kReplace;
  EXPECT_EQ(build("killed").shards_kept, 0);
}

// Documents are the lines of two files, of which the second has a bad one.
TEST_F(DatasetBuilderTest, ARepairedSourceKeepsTheShardsBeforeTheRepair) {
  std::string lines;
  for (int i = 0; i < 200; ++i)
    lines += cat("{\"text\":\"document ", i, " has some words that stay as they are\"}\n");
  write_text(folder_ / "json/a.jsonl", lines);
  write_text(folder_ / "json/b.jsonl", lines + "{\"text\":7}\n");
  options_.shard_tokens = 1000;
  options_.group_bytes = 1;
  files_ = find_documents({folder_ / "json"}, {});
  EXPECT_THROW(build("stopped"), DataError);
  write_text(folder_ / "json/b.jsonl", lines + "{\"text\":\"seven\"}\n");
  files_ = find_documents({folder_ / "json"}, {});
  const BuildResult result = build("stopped");
  EXPECT_GT(result.shards_kept, 15);
  EXPECT_LT(result.progress.text_bytes, 4000);
  build("whole");
  EXPECT_EQ(content("stopped"), content("whole"));
}

// Killed while the shards get their final numbers: those of changed sources would take the names, and the
// places, of shards that are there.
TEST_F(DatasetBuilderTest, AKilledEndDoesNotGoOnWithOtherSources) {
  struct Killed {};
  options_.group_bytes = 10'000;
  options_.barrier = [] { throw Killed(); };  // when all groups are done
  EXPECT_THROW(build("killed"), Killed);
  options_.barrier = [] {};
  const auto groups = content("killed");
  fs::rename(folder_ / "killed/train/shard-g00000-00000.h5", folder_ / "killed/train/shard-00000.h5");
  write_text(files_[0].path, any_bytes(99, 5000));
  files_ = find_documents({folder_ / "text"}, {});
  EXPECT_THROW(build("killed"), ConfigError);
  EXPECT_EQ(content("killed").size(), groups.size()) << "nothing is removed";
  write_text(files_[0].path, any_bytes(99, 5001));
  options_.existing = ExistingDataset::kReplace;
  files_ = find_documents({folder_ / "text"}, {});
  build("killed");
  EXPECT_TRUE(check_dataset(folder_ / "killed").problems.empty());
}

TEST_F(DatasetBuilderTest, ASourceThatIsChangedWhileItIsReadIsSaid) {
  for (const bool changes : {false, true}) {
    bool is_first = true;
    options_.on_progress = [&](const BuildProgress&) {
      if (std::exchange(is_first, false) && changes) write_text(files_[0].path, any_bytes(7, 4000));
    };
    testing::internal::CaptureStderr();
    build(cat("changed-", changes));
    const bool is_said =
        testing::internal::GetCapturedStderr().find("was changed after") != std::string::npos;
    EXPECT_EQ(is_said, changes);
  }
}

TEST_F(DatasetBuilderTest, WhatReplacesADataSetIsBuiltBesideIt) {
  build("ds");
  const auto old = content("ds");
  options_.existing = ExistingDataset::kReplace;
  options_.shard_tokens = 3000;
  options_.bytes_in_flight = 1;
  struct Killed {};
  for (const int64_t stop_at : {int64_t{1}, int64_t{30'000}}) {
    options_.on_progress = [&](const BuildProgress& p) {
      if (p.source_bytes >= stop_at) throw Killed();
    };
    EXPECT_THROW(build("ds"), Killed);
    EXPECT_EQ(content("ds"), old);
  }
  options_.on_progress = [](const BuildProgress&) {};
  EXPECT_GT(build("ds").shards_kept, 2);
  EXPECT_FALSE(fs::exists(folder_ / "ds.unfinished"));
  options_.existing = ExistingDataset::kRefuse;
  build("fresh");
  EXPECT_EQ(content("ds"), content("fresh"));
}

// Between the manifest and the exchange, and after it: the same command ends what was begun.
TEST_F(DatasetBuilderTest, AReplacementThatIsWholeIsPutInPlace) {
  build("new");
  const auto whole = content("new");
  options_.shard_tokens = 3000;
  build("ds");
  const auto old = content("ds");
  options_.existing = ExistingDataset::kReplace;
  options_.shard_tokens = 4000;
  options_.bytes_in_flight = 1;
  struct Killed {};
  options_.on_progress = [](const BuildProgress& p) {
    if (p.source_bytes >= 30'000) throw Killed();
  };
  EXPECT_THROW(build("ds"), Killed);
  options_.on_progress = [](const BuildProgress&) {};
  const std::string journal = read_file(folder_ / "ds.unfinished/journal.json", "journal");
  for (const char* split : {"train", "valid"}) fs::remove_all(folder_ / cat("ds.unfinished/", split));
  for (const auto& [name, text] : whole) write_text(folder_ / ("ds.unfinished/" + name), text);
  EXPECT_EQ(content("ds"), old);
  EXPECT_EQ(build("ds").progress.text_bytes, 0) << "nothing was read again";
  EXPECT_EQ(content("ds"), whole);
  write_text(folder_ / "ds/journal.json", journal);
  EXPECT_EQ(build("ds").progress.text_bytes, 0);
  EXPECT_EQ(content("ds"), whole);
}

// The file of a lock that was let go must not be locked beside a new one.
TEST_F(DatasetBuilderTest, ALockThatWasRemovedIsNoLock) {
  auto first = std::make_unique<WriterLock>(folder_ / "locked");
  EXPECT_THROW(WriterLock(folder_ / "locked"), ConfigError);
  fs::rename(folder_ / "locked", folder_ / "moved");  // the lock goes along
  EXPECT_THROW(WriterLock(folder_ / "moved"), ConfigError);
  const WriterLock second(folder_ / "locked");
  first.reset();
  EXPECT_THROW(WriterLock(folder_ / "locked"), ConfigError);
  const WriterLock third(folder_ / "moved");
}

TEST_F(DatasetBuilderTest, EveryCompressionHoldsTheSameTokens) {
  options_.compression = Compression::kNone;
  const BuildResult none = build("none");
  options_.compression = Compression::kDeflate;
  const BuildResult deflate = build("deflate");
  for (const char* split : {"train", "valid"}) {
    const auto& a = none.manifest.splits.at(split).shards;
    const auto& b = deflate.manifest.splits.at(split).shards;
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].checksum, b[i].checksum);
  }
  EXPECT_TRUE(check_dataset(folder_ / "none").problems.empty());
  if (!hdf5_has_zstd()) {
    EXPECT_THROW(parse_compression("zstd"), ConfigError);
  } else {
    options_.compression = parse_compression("zstd");
    build("zstd");
    EXPECT_TRUE(check_dataset(folder_ / "zstd").problems.empty());
  }
  EXPECT_THROW(parse_compression("lzma"), ConfigError);
}

TEST_F(DatasetBuilderTest, InvalidUtf8IsCounted) {
  fs::remove_all(folder_ / "text");
  write_text(folder_ / "text/a.txt", "good \xC3\xA9");
  write_text(folder_ / "text/b.txt", "bad \xFF\xFE");
  files_ = find_documents({folder_ / "text"}, {});
  options_.ranges = {};
  EXPECT_EQ(build("ds").manifest.splits.at("train").invalid_utf8(), 2);
}

TEST_F(DatasetBuilderTest, ASecondWriterOfAFolderIsRefused) {
  {
    const WriterLock other(folder_ / "ds");
    EXPECT_NE(message_of<ConfigError>([&] { build("ds"); }).find("another `fwl tokenize`"),
              std::string::npos);
  }
  build("ds");
  for (const auto& [name, text] : content("ds")) EXPECT_EQ(name.find("lock"), std::string::npos) << name;
}

TEST_F(DatasetBuilderTest, MoreThreadsThanTheMachineCanStartAreRefused) {
  rlimit before{};
  getrlimit(RLIMIT_AS, &before);
  rlimit limit = before;
  limit.rlim_cur = rlim_t{8} << 30;  // of address space: a thread takes 8 MiB of it
  options_.threads = 1'000'000;
  setrlimit(RLIMIT_AS, &limit);
  const std::string message = message_of<ConfigError>([&] { build("ds"); });
  setrlimit(RLIMIT_AS, &before);
  EXPECT_NE(message.find("threads cannot be started"), std::string::npos) << message;
}

// A file where another document's folder should be, a folder where its file should be, and the same name.
TEST_F(DatasetBuilderTest, DocumentsWhoseNamesCollideAllComeBack) {
  write_text(folder_ / "one/c", "file");
  write_text(folder_ / "two/c/d", "below");
  write_text(folder_ / "three/c", "again");
  files_ = find_documents({folder_ / "one", folder_ / "two", folder_ / "three"}, {});
  options_.ranges = {};
  build("ds");
  const TextReport report = write_documents(Split(folder_ / "ds"), folder_ / "back");
  EXPECT_EQ(report.renamed, 2);
  EXPECT_EQ(content("back"),
            (std::map<std::string, std::string>{{"c", "file"}, {"c.2", "again"}, {"c.3/d", "below"}}));
}

// Restores the limit on file sizes when it goes.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(DatasetBuilderTest, AFullDiskIsAClearErrorAndPublishesNothing) {
  options_.shard_tokens = 1'000'000;
  options_.ranges = {};
  for (const rlim_t bytes : {2'000, 6'000, 10'000, 20'000}) {
    fs::remove_all(folder_ / "full");
    {
      const FileSizeLimit limit(bytes);
      EXPECT_THROW(build("full"), DataError) << bytes;
    }
    EXPECT_FALSE(fs::exists(folder_ / "full/manifest.json"));
    EXPECT_TRUE(fs::is_empty(folder_ / "full/train")) << bytes;
  }
  build("full");  // goes on when there is room again
  EXPECT_TRUE(check_dataset(folder_ / "full").problems.empty());
}

}  // namespace
}  // namespace fwl

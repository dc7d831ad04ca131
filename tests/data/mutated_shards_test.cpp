// Hostile data sets: whatever is done to a shard or the manifest, reading gives the right tokens or a
// DataError, and `fwl data check` finds it. Run it under the asan preset too: it then also proves that
// nothing is read out of bounds.
#include <gtest/gtest.h>
#include <hdf5.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "data/dataset.h"
#include "data/dataset_check.h"
#include "data/dataset_text.h"
#include "data/loader.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/hostile_json.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class MutatedShardsTest : public testing::Test {
 protected:
  // Documents of equal size, so that shards differ in nothing but their content.
  void SetUp() override {
    for (int i = 0; i < 24; ++i)
      texts_[cat("folder/d", i < 10 ? "0" : "", i)] = some_text(3000, static_cast<uint64_t>(i));
    manifest_ = write_dataset(dir_, texts_, *tokenizer_, 3 * 3001);
    for (const auto& [name, text] : texts_) {
      for (const int32_t id : tokenized(name, text, *tokenizer_).tokens) stream_.push_back(id);
    }
    content_ = read_file(shard(0), "shard");
  }
  std::string shard(size_t i) const { return dir_ + "/" + manifest_.splits.at("train").shards.at(i).file; }

  enum class Result { kSame, kRefused };
  // Reads everything in windows from the file. Anything but the right tokens or a DataError is a failure.
  Result use(int64_t tokens_in_memory) {
    try {
      const Split split(dir_, tokens_in_memory);
      split.tokenizer();
      std::vector<int64_t> tokens(1000);
      for (int64_t first = 0; first + 1000 <= split.num_tokens(); first += 1000) {
        split.read_tokens(first, 1000, tokens.data());
        EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), stream_.begin() + first)) << "token " << first;
      }
      for (int64_t i = 0; i < split.num_documents(); ++i) {
        const Document document = split.document(i);
        EXPECT_EQ(document.first_token, 3001 * i);
        EXPECT_TRUE(texts_.count(document.name) == 1) << document.name;
      }
      return Result::kSame;
    } catch (const DataError& error) {
      EXPECT_GT(std::string(error.what()).size(), 20u);
      return Result::kRefused;
    }
  }
  bool check_finds_it() {
    try {
      return !check_dataset(dir_).problems.empty();
    } catch (const DataError&) {
      return true;  // no manifest
    }
  }
  // What reading refuses, the check finds.
  void judge(const std::string& what, Result expected) {
    ++mutations_;
    const Result from_file = use(0), from_memory = use(int64_t{1} << 20);
    if (expected == Result::kRefused) {
      EXPECT_EQ(from_file, Result::kRefused) << what;
      EXPECT_TRUE(check_finds_it()) << what;
    } else if (from_file == Result::kRefused || from_memory == Result::kRefused) {
      EXPECT_TRUE(check_finds_it()) << what;
    }
  }
  void restore() { write_text(shard(0), content_); }
  void edit_manifest(const std::function<void(json&)>& edit) {
    write_manifest(dir_, manifest_);
    json root = json::parse(read_file(dir_ + "/manifest.json", "manifest"));
    edit(root);
    write_text(dir_ + "/manifest.json", root.dump());
  }
  // Rewrites shard 0 through HDF5's own interface.
  void edit_hdf5(const std::function<void(hid_t)>& edit) {
    restore();
    const hid_t file = H5Fopen(shard(0).c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    edit(file);
    ASSERT_GE(H5Fclose(file), 0);
  }

  TemporaryFolder folder_;
  std::string dir_ = folder_ / "ds";
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
  Texts texts_;
  Manifest manifest_;
  std::vector<int64_t> stream_;
  std::string content_;
  int mutations_ = 0;
};

TEST_F(MutatedShardsTest, TheUndamagedDataSetIsGood) {
  EXPECT_EQ(use(0), Result::kSame);
  const DatasetCheck check = check_dataset(dir_);
  EXPECT_TRUE(check.problems.empty()) << check.problems[0].file << ": " << check.problems[0].problem;
  EXPECT_EQ(check.documents, 24);
  EXPECT_EQ(check.tokens, static_cast<int64_t>(stream_.size()));
}

TEST_F(MutatedShardsTest, FlippedBitsInHeaderDataAndMetadataNeverGiveOtherTokens) {
  std::vector<std::pair<std::string, size_t>> places;
  for (size_t i = 0; i < 96; ++i) places.emplace_back("header", i);
  {
    const Hdf5File file = Hdf5File::open(shard(0), "shard");
    for (const char* dataset : {"tokens", "documents/offsets", "documents/names"}) {
      for (const Hdf5Chunk& chunk : file.chunks(dataset)) {
        for (uint64_t i = 0; i < 12; ++i)
          places.emplace_back(cat("data of ", dataset),
                              chunk.file_offset + mix_bits(i) % static_cast<uint64_t>(chunk.bytes));
      }
    }
  }
  for (uint64_t i = 0; i < 100; ++i) places.emplace_back("anywhere", mix_bits(i + 77) % content_.size());
  for (const auto& [what, at] : places) {
    std::string damaged = content_;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    write_text(shard(0), damaged);
    judge(cat(what, ", byte ", at), what.rfind("data of", 0) == 0 ? Result::kRefused : Result::kSame);
  }
  EXPECT_GE(mutations_, 200);
}

TEST_F(MutatedShardsTest, CutOffAtEveryRegionIsRefused) {
  for (size_t length = 0; length < content_.size(); length += 1 + content_.size() / 40) {
    write_text(shard(0), content_.substr(0, length));
    judge(cat("cut to ", length), Result::kRefused);
  }
  EXPECT_GE(mutations_, 39);
}

TEST_F(MutatedShardsTest, SwappedShardsOfEqualCountsAreRefusedBeforeATokenIsRead) {
  fs::rename(shard(0), folder_ / "x");
  fs::rename(shard(1), shard(0));
  fs::rename(folder_ / "x", shard(1));
  judge("swapped", Result::kRefused);
  const Split split(dir_, 0);
  int64_t token = 0;
  EXPECT_NE(message_of<DataError>([&] { split.read_tokens(0, 1, &token); }).find("swapped"),
            std::string::npos);
}

TEST_F(MutatedShardsTest, AShardOfAnotherDataSetOrTokenizerIsRefused) {
  const Manifest other = write_dataset(folder_ / "other", texts_, *tokenizer_, 2 * 3001);
  fs::copy_file(folder_ / "other/train/shard-00001.h5", shard(0), fs::copy_options::overwrite_existing);
  judge("another data set", Result::kRefused);
  restore();
  edit_manifest([](json& m) { m["tokenizer"]["hash"] = "0123456789abcdef"; });
  judge("another tokenizer", Result::kRefused);
  for (const char* model : {"AAAA", "no base64", "AAA"}) {
    edit_manifest([&](json& m) {
      m["tokenizer"]["kind"] = "sentencepiece";
      m["tokenizer"]["model"] = model;
    });
    judge(cat("the tokenizer ", model), Result::kRefused);
  }
  edit_manifest([](json& m) { m["tokenizer"].erase("model"); });
  judge("no tokenizer", Result::kRefused);
  edit_manifest([](json& m) { m["tokenizer"]["model"] = 7; });
  judge("a number for a tokenizer", Result::kRefused);
}

// As git-annex, DVC and model hubs lay files out: what the manifest's checksum proves may lie anywhere.
TEST_F(MutatedShardsTest, LinksOutsideTheFolderAreFollowedWhereTheChecksumProvesThem) {
  fs::copy_file(shard(0), folder_ / "outside.h5");
  fs::remove(shard(0));
  fs::create_symlink(folder_ / "outside.h5", shard(0));
  EXPECT_EQ(use(0), Result::kSame);
  EXPECT_EQ(use(int64_t{1} << 20), Result::kSame);
  const DatasetCheck check = check_dataset(dir_);
  EXPECT_TRUE(check.problems.empty());
  EXPECT_NE(check.remarks.at(0).find("1 shard(s) are symbolic links"), std::string::npos);
  // The same counts and attributes, other tokens: only the tokens' own checksum tells.
  const std::string outside = folder_ / "outside.h5";
  const hid_t file = H5Fopen(outside.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t tokens = H5Dopen2(file, "tokens", H5P_DEFAULT);
  std::vector<uint16_t> all(3 * 3001);
  H5Dread(tokens, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data());
  all[1] ^= 1;
  H5Dwrite(tokens, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data());
  H5Dclose(tokens);
  H5Fclose(file);
  judge("a link to other tokens", Result::kRefused);
  fs::remove(outside);
  EXPECT_NE(message_of<UnavailableError>([&] { use(0); }).find("a link to '"), std::string::npos);
  fs::remove(shard(0));
  fs::create_symlink("/etc/passwd", shard(0));
  judge("a link to something else", Result::kRefused);
  fs::remove(shard(0));
  fs::create_symlink("/dev/zero", shard(0));
  judge("a link to a device", Result::kRefused);
  fs::remove(shard(0));
  fs::rename(dir_ + "/train", folder_ / "elsewhere");
  write_text(folder_ / "elsewhere/shard-00000.h5", content_);
  fs::create_directory_symlink(folder_ / "elsewhere", dir_ + "/train");
  EXPECT_EQ(use(0), Result::kSame);
}

TEST_F(MutatedShardsTest, LinksToADataSetAndToASplitAreFollowed) {
  fs::create_directory_symlink(dir_, folder_ / "whole");
  fs::create_directory_symlink(dir_ + "/train", folder_ / "only");
  fs::create_directories(folder_ / "deep/er");
  fs::create_directory_symlink(dir_ + "/train", folder_ / "deep/er/link");
  for (const char* path :
       {"ds", "ds/", "ds/train", "ds/./train/", "whole", "whole/train", "whole/train/../train", "only",
        "only/", "only/../train", "only/..", "deep/er/link", "deep/er/link/../train"}) {
    const Split split(folder_ / path);
    EXPECT_EQ(split.name(), "train") << path;
    EXPECT_EQ(split.num_tokens(), static_cast<int64_t>(stream_.size())) << path;
    EXPECT_TRUE(fs::equivalent(split.path(), dir_)) << path;
  }
  for (const char* path : {"deep", "deep/er", "only/../valid", "whole/valid"})
    EXPECT_THROW(Split(folder_ / path), DataError) << path;
}

TEST_F(MutatedShardsTest, WhatCannotBeReadIsNeverLeftOutAsDamaged) {
  const std::vector<std::pair<const char*, std::function<void()>>> cases = {
      {"no file", [] {}},
      {"a broken link", [&] { fs::create_symlink("nowhere", shard(0)); }},
      {"links in a circle", [&] { fs::create_symlink(fs::path(shard(0)).filename(), shard(0)); }},
  };
  for (const auto& [what, make] : cases) {
    fs::remove(shard(0));
    make();
    const Split split(dir_, 0);
    for (const int64_t streams : {0, 2}) {
      EXPECT_THROW(Loader(split, 64, 1, streams, BadData::kLeaveOut).read(0, 1000), UnavailableError) << what;
    }
    EXPECT_THROW(Loader(split, 64, 1, 2, BadData::kLeaveOut, StreamOrder::kDocuments).read(0, 1128),
                 UnavailableError)
        << what;
    const DatasetCheck check = check_dataset(dir_);
    ASSERT_EQ(check.problems.size(), 1u) << what;
    EXPECT_TRUE(check.problems[0].is_unavailable) << what;
    EXPECT_EQ(check.problems[0].problem.find("Make"), std::string::npos) << check.problems[0].problem;
  }
}

TEST_F(MutatedShardsTest, HdfFivesOwnWaysOutOfTheFileAreRefused) {
  fs::copy_file(shard(0), folder_ / "outside.h5");
  const std::string outside = folder_ / "outside.h5";
  edit_hdf5([&](hid_t file) {
    H5Ldelete(file, "tokens", H5P_DEFAULT);
    H5Lcreate_external(outside.c_str(), "/tokens", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
  });
  judge("external link", Result::kRefused);
  edit_hdf5([&](hid_t file) {
    H5Ldelete(file, "documents", H5P_DEFAULT);
    H5Lcreate_external(outside.c_str(), "/documents", file, "documents", H5P_DEFAULT, H5P_DEFAULT);
  });
  judge("external link of a group", Result::kRefused);
  edit_hdf5([&](hid_t file) {
    H5Lmove(file, "tokens", file, "other", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/other", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
  });
  judge("soft link", Result::kRefused);
  const hsize_t rows = 3 * 3001;
  edit_hdf5([&](hid_t file) {
    H5Ldelete(file, "tokens", H5P_DEFAULT);
    const hid_t space = H5Screate_simple(1, &rows, nullptr), properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(properties, outside.c_str(), 0, 2 * rows);
    H5Dclose(H5Dcreate2(file, "tokens", H5T_NATIVE_UINT16, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  });
  judge("external storage", Result::kRefused);
  edit_hdf5([&](hid_t file) {
    H5Ldelete(file, "tokens", H5P_DEFAULT);
    const hid_t space = H5Screate_simple(1, &rows, nullptr), properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_virtual(properties, space, outside.c_str(), "/tokens", space);
    H5Dclose(H5Dcreate2(file, "tokens", H5T_NATIVE_UINT16, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  });
  judge("virtual dataset", Result::kRefused);
}

TEST_F(MutatedShardsTest, WrongTypesAbsurdSizesAndNegativeOffsetsAreRefused) {
  const auto replace = [&](const char* name, hid_t type, hsize_t rows, const void* data) {
    edit_hdf5([&](hid_t file) {
      H5Ldelete(file, name, H5P_DEFAULT);
      const hid_t space = H5Screate_simple(1, &rows, nullptr), properties = H5Pcreate(H5P_DATASET_CREATE);
      const hsize_t chunk = std::min<hsize_t>(rows, 4096);
      if (data == nullptr) H5Pset_chunk(properties, 1, &chunk);  // claims rows, stores nothing
      const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
      if (data != nullptr) H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
      H5Dclose(dataset);
    });
    judge(cat(name, " of ", rows, " rows"), Result::kRefused);
  };
  const std::vector<double> numbers(3 * 3001, 1.0);
  const std::vector<int64_t> negative = {0, -3001, 6002, 9003}, late = {0, 3001, 6002, INT64_MAX};
  const std::vector<int64_t> lengths = {3000, -1, 6001};
  replace("tokens", H5T_NATIVE_DOUBLE, numbers.size(), numbers.data());
  replace("tokens", H5T_NATIVE_INT64, numbers.size(), numbers.data());
  replace("tokens", H5T_NATIVE_UINT16, hsize_t{1} << 45, nullptr);
  replace("documents/offsets", H5T_NATIVE_INT64, hsize_t{1} << 45, nullptr);
  replace("documents/offsets", H5T_NATIVE_INT64, hsize_t{1} << 38, nullptr);
  replace("documents/names", H5T_NATIVE_UINT8, hsize_t{1} << 45, nullptr);
  replace("documents/names", H5T_NATIVE_UINT8, hsize_t{1} << 34, nullptr);
  replace("documents/offsets", H5T_NATIVE_INT64, 4, negative.data());
  replace("documents/offsets", H5T_NATIVE_INT64, 4, late.data());
  replace("documents/bytes", H5T_NATIVE_INT64, 3, lengths.data());
  replace("documents/bytes", H5T_NATIVE_DOUBLE, 3, numbers.data());
}

TEST_F(MutatedShardsTest, DamagedManifestsAreRefused) {
  const auto first = [](json& m) -> json& { return m["splits"]["train"]["shards"][0]; };
  const std::vector<std::function<void(json&)>> edits = {
      [](json& m) { m["version"] = kDatasetVersion + 1; },
      [](json& m) { m["version"] = "2"; },
      [](json& m) { m["version"] = -1; },
      [](json& m) { m["vocab_size"] = int64_t{1} << 40; },
      [](json& m) { m["vocab_size"] = 3; },
      [](json& m) { m["document_start"] = -1; },
      [&](json& m) { first(m)["file"] = "../outside.h5"; },
      [&](json& m) { first(m)["file"] = "/etc/passwd"; },
      [&](json& m) { first(m)["file"] = 7; },
      [&](json& m) { first(m)["file"] = "train/shard-00001.h5"; },
      [&](json& m) { first(m)["checksum"] = "0000000000000000"; },
      [&](json& m) { first(m)["tokens"] = -3; },
      [&](json& m) { first(m)["tokens"] = int64_t{1} << 60; },
      [&](json& m) {
        first(m)["tokens"] = 1000000 + 3 * 3001;
        m["splits"]["train"]["tokens"] = 1000000 + 24 * 3001;
      },
      [&](json& m) { first(m).erase("documents"); },
      [](json& m) { m["splits"]["train"]["shards"] = "none"; },
      [](json& m) { m.erase("splits"); },
      [](json& m) { m["splits"] = json::array({1}); },
      [](json& m) { m["splits"]["../train"] = m["splits"]["train"]; },
      [](json& m) { m["splits"][""] = m["splits"]["train"]; },
      [](json& m) { m["splits"][".."] = m["splits"]["train"]; },
      [](json& m) { m["vocab_size"] = 257.0; },
      [&](json& m) { first(m)["tokens"] = 9003.0; },
      [&](json& m) { first(m)["file"] = std::string("train/shard-00000.h5\0x", 22); },
  };
  for (size_t i = 0; i < edits.size(); ++i) {
    edit_manifest(edits[i]);
    judge(cat("edit ", i), Result::kRefused);
  }
  for (const int depth : {100, 400'000}) {
    write_text(dir_ + "/manifest.json", std::string(static_cast<size_t>(depth), '['));
    judge("brackets", Result::kRefused);
    write_text(dir_ + "/manifest.json", "{\"format\": \"fwl-dataset\", \"version\": 3, \"splits\": " +
                                            std::string(static_cast<size_t>(depth), '[') +
                                            std::string(static_cast<size_t>(depth), ']') + "}");
    judge("nested lists", Result::kRefused);
  }
}

// Every value of the manifest, one after the other, is replaced by what a writer would never put there.
TEST_F(MutatedShardsTest, AnyValueOfTheManifestIsRefusedOrHarmless) {
  write_manifest(dir_, manifest_);
  const json good = json::parse(read_file(dir_ + "/manifest.json", "manifest"));
  const json leaves = good.flatten();
  for (const auto& [place, ignored] : leaves.items()) {
    for (const json& value : hostile_values()) {
      json changed = good;
      changed[json::json_pointer(place)] = value;
      write_text(dir_ + "/manifest.json", changed.dump());
      try {
        const Split split(dir_, 0);
        int64_t token = 0;
        if (split.num_tokens() > 0) split.read_tokens(0, 1, &token);
      } catch (const DataError&) {
      } catch (const UnavailableError&) {  // another file's name
      }
    }
  }
}

TEST_F(MutatedShardsTest, TheCheckNamesFileDatasetChunkAndOffset) {
  int64_t offset = 0, chunk_bytes = 0;
  {
    const Hdf5File file = Hdf5File::open(shard(0), "shard");
    offset = file.chunks("tokens").at(1).file_offset;
    chunk_bytes = file.chunks("tokens").at(1).bytes;
  }
  std::string damaged = content_;
  damaged[static_cast<size_t>(offset + chunk_bytes / 2)] ^= 0x10;
  write_text(shard(0), damaged);
  const DatasetCheck check = check_dataset(dir_);
  ASSERT_EQ(check.problems.size(), 1u);
  EXPECT_EQ(check.problems[0].file, "train/shard-00000.h5");
  EXPECT_EQ(check.problems[0].dataset, "tokens");
  EXPECT_EQ(check.problems[0].chunk, 1);
  EXPECT_EQ(check.problems[0].offset, offset);
}

TEST_F(MutatedShardsTest, ANameThatLeavesTheFolderIsNotWritten) {
  write_dataset(dir_, {{"../escaped", "text"}}, *tokenizer_, 1000);
  EXPECT_THROW(write_documents(Split(dir_), folder_ / "out/deep"), DataError);
  EXPECT_FALSE(fs::exists(folder_ / "out/escaped"));
  EXPECT_FALSE(fs::exists(folder_ / "escaped"));
}

}  // namespace
}  // namespace fwl

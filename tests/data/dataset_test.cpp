#include "data/dataset.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/hdf5.h"
#include "data/base64.h"
#include "data/dataset_check.h"
#include "data/tokenizer_training.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

using nlohmann::json;

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 9; ++i)
      texts_["doc" + std::to_string(i)] = some_text(20 + 37 * i, static_cast<uint64_t>(i));
    texts_["empty"] = "";
    manifest_ = write_dataset(dir_, texts_, *tokenizer_, 300);
    for (const auto& [name, text] : texts_) {
      for (const int32_t id : tokenized(name, text, *tokenizer_).tokens) stream_.push_back(id);
    }
  }
  static std::vector<int64_t> read(const Split& split, int64_t first, int64_t count) {
    std::vector<int64_t> tokens(static_cast<size_t>(count));
    split.read_tokens(first, count, tokens.data());
    return tokens;
  }
  // Opens the split and uses all of it.
  void use() const {
    const Split split(dir_);
    read(split, 0, split.num_tokens());
    split.tokenizer();
  }
  std::string shard(int i) const {
    return dir_ + "/" + manifest_.splits.at("train").shards[static_cast<size_t>(i)].file;
  }

  TemporaryFolder folder_;
  std::string dir_ = folder_ / "ds";
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
  Texts texts_;
  Manifest manifest_;
  std::vector<int64_t> stream_;
};

TEST_F(DatasetTest, GivesBackEveryTokenInOrder) {
  const Split split(dir_);
  ASSERT_GT(manifest_.splits["train"].shards.size(), 3u);
  EXPECT_EQ(split.num_tokens(), static_cast<int64_t>(stream_.size()));
  EXPECT_EQ(read(split, 0, split.num_tokens()), stream_);
}

TEST_F(DatasetTest, ReadsAnyRangeAcrossShards) {
  const Split split(dir_);
  for (int64_t first = 0; first < split.num_tokens(); first += 61) {
    for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{64}, int64_t{700}}) {
      const int64_t part = std::min(count, split.num_tokens() - first);
      EXPECT_EQ(read(split, first, part),
                std::vector<int64_t>(stream_.begin() + first, stream_.begin() + first + part));
    }
  }
  EXPECT_THROW(read(split, split.num_tokens() - 1, 2), InternalError);
}

TEST_F(DatasetTest, ReadsTheSameFromFilesAsFromMemory) {
  write_dataset(dir_, texts_, *tokenizer_, 1);  // more shards than stay open
  const Split split(dir_, 0);
  ASSERT_GT(split.manifest().splits.at("train").shards.size(), 8u);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(read(split, 0, split.num_tokens()), stream_);
    for (int64_t first = split.num_tokens() - 40; first >= 0; first -= 101) {
      EXPECT_EQ(read(split, first, 40),
                std::vector<int64_t>(stream_.begin() + first, stream_.begin() + first + 40));
    }
  }
}

TEST_F(DatasetTest, KnowsItsDocuments) {
  const Split split(dir_ + "/train/");
  ASSERT_EQ(split.num_documents(), static_cast<int64_t>(texts_.size()));
  int64_t index = 0, bytes = 0;
  for (const auto& [name, text] : texts_) {
    const Document& document = split.document(index);
    EXPECT_EQ(document.name, name);
    EXPECT_EQ(document.num_bytes, static_cast<int64_t>(text.size()));
    const auto tokens = read(split, document.first_token, document.num_tokens);
    EXPECT_EQ(tokens[0], split.document_start());
    EXPECT_EQ(split.tokenizer().decode({tokens.begin(), tokens.end()}), text);
    EXPECT_EQ(split.document_of(document.first_token), index);
    EXPECT_EQ(split.document_of(document.first_token + document.num_tokens - 1), index);
    bytes += document.num_bytes;
    ++index;
  }
  EXPECT_EQ(split.total_bytes(), bytes);
}

TEST_F(DatasetTest, ShardSizeDoesNotChangeTheStream) {
  for (const int64_t shard_tokens : {1, 100, 1'000'000}) {
    write_dataset(dir_, texts_, *tokenizer_, shard_tokens);
    const Split split(dir_);
    EXPECT_EQ(read(split, 0, split.num_tokens()), stream_);
  }
}

TEST_F(DatasetTest, WideVocabulariesAreStoredInFull) {
  Manifest wide = manifest_;
  wide.vocab_size = 100'000;
  ShardWriter writer(dir_, "train", wide, 1000);
  writer.append({"a", 3, {256, 70'000, 99'999}});
  wide.splits["train"] = writer.finish();
  write_manifest(dir_, wide);
  EXPECT_EQ(read(Split(dir_), 0, 3), (std::vector<int64_t>{256, 70'000, 99'999}));
}

TEST_F(DatasetTest, LeavesNoTemporaryFiles) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_)) {
    EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
  }
}

TEST_F(DatasetTest, MissingPartsAreErrorsThatNameThem) {
  EXPECT_THROW(Split(folder_ / "none"), DataError);
  EXPECT_NE(message_of<DataError>([&] { Split split(dir_ + "/valid"); }).find("valid"), std::string::npos);
  std::filesystem::remove(shard(1));
  EXPECT_NE(message_of<UnavailableError>([&] { use(); }).find("shard-00001.h5"), std::string::npos);
  std::filesystem::remove(dir_ + "/manifest.json");
  EXPECT_NE(message_of<DataError>([&] { use(); }).find("manifest.json"), std::string::npos);
}

TEST_F(DatasetTest, DamagedManifestsAreDataErrors) {
  const json good = json::parse(read_file(dir_ + "/manifest.json", "manifest"));
  const std::vector<std::function<void(json&)>> damages = {
      [](json& m) { m = json::array(); },
      [](json& m) { m["format"] = 7; },
      [](json& m) { m["version"] = kDatasetVersion + 1; },
      [](json& m) { m.erase("version"); },
      [](json& m) { m.erase("tokenizer"); },
      [](json& m) { m["tokenizer"]["kind"] = "words"; },
      [](json& m) { m["tokenizer"]["kind"] = 3; },
      [](json& m) { m["tokenizer"]["hash"] = "0000000000000000"; },
      [](json& m) { m["vocab_size"] = 0; },
      [](json& m) { m["vocab_size"] = -5; },
      [](json& m) { m["vocab_size"] = 1e300; },
      [](json& m) { m["vocab_size"] = 300; },
      [](json& m) { m["document_start"] = 257; },
      [](json& m) { m["document_start"] = 5; },
      [](json& m) { m["splits"] = 1; },
      [](json& m) { m["splits"].erase("train"); },
      [](json& m) { m["splits"]["train"]["shards"] = "all"; },
      [](json& m) { m["splits"]["train"]["tokens"] = 1; },
      [](json& m) { m["splits"]["train"]["shards"][0]["tokens"] = 1; },
      [](json& m) { m["splits"]["train"]["shards"][0]["tokens"] = uint64_t{1} << 63; },
      [](json& m) { m["splits"]["train"]["shards"][0]["documents"] = -1; },
      [](json& m) { m["splits"]["train"]["shards"][0]["file"] = "../../etc/passwd"; },
      [](json& m) { m["splits"]["train"]["shards"][0]["file"] = "/etc/passwd"; },
      [](json& m) {
        std::swap(m["splits"]["train"]["shards"][0]["file"], m["splits"]["train"]["shards"][1]["file"]);
      },
      [](json& m) { m["splits"]["train"]["shards"][0]["checksum"] = "0000000000000000"; },
      [](json& m) { m["splits"]["train"]["shards"][0].erase("checksum"); },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    json damaged = good;
    damages[i](damaged);
    write_text(dir_ + "/manifest.json", damaged.dump());
    EXPECT_NE(message_of<DataError>([&] { use(); }).find(dir_), std::string::npos) << "damage " << i;
  }
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("\xFF\xFE"), good.dump().substr(0, 200)}) {
    write_text(dir_ + "/manifest.json", text);
    EXPECT_THROW(use(), DataError);
  }
}

// What a shard can hold; changed one by one below.
struct Parts {
  std::string format = "fwl-shard", hash;
  int64_t version = 1, vocab_size = 257;
  std::vector<int64_t> tokens = {256, 1, 2, 256, 3}, offsets = {0, 3, 5}, bytes = {2, 1};
  std::vector<std::string> names = {"a", "b"};
};

class ShardTest : public DatasetTest {
 protected:
  void SetUp() override {
    manifest_ = write_dataset(dir_, {{"a", "\x01\x02"}, {"b", "\x03"}}, *tokenizer_, 1000);
    parts_.hash = manifest_.tokenizer_hash;
  }
  void write(const Parts& p, const std::function<void(Hdf5File&)>& write_tokens = {}) {
    Hdf5File file = Hdf5File::create(shard(0));
    file.set_attribute("format", p.format);
    file.set_attribute("version", p.version);
    file.set_attribute("vocab_size", p.vocab_size);
    file.set_attribute("tokenizer_hash", p.hash);
    const std::vector<uint16_t> tokens(p.tokens.begin(), p.tokens.end());
    if (write_tokens) {
      write_tokens(file);
    } else {
      file.write("tokens", {static_cast<int64_t>(tokens.size())}, tokens.data());
    }
    file.write("documents/offsets", {static_cast<int64_t>(p.offsets.size())}, p.offsets.data());
    file.write("documents/bytes", {static_cast<int64_t>(p.bytes.size())}, p.bytes.data());
    file.write_strings("documents/names", p.names);
    file.close();
  }
  void expect_refused(const std::function<void(Parts&)>& damage, const std::string& words) {
    Parts damaged = parts_;
    damage(damaged);
    write(damaged);
    const std::string message = message_of<DataError>([&] { use(); });
    EXPECT_NE(message.find(shard(0)), std::string::npos) << words << ": " << message;
    EXPECT_NE(message.find(words), std::string::npos) << message;
  }
  Parts parts_;
};

TEST_F(ShardTest, TheUndamagedPartsAreRead) {
  write(parts_);
  use();
}

TEST_F(ShardTest, DamagedPartsAreDataErrorsThatNamePathDatasetAndOffset) {
  expect_refused([](Parts& p) { p.format = "golden"; }, "no shard");
  expect_refused([](Parts& p) { p.version = 3; }, "version 3");
  expect_refused([](Parts& p) { p.vocab_size = 99; }, "99");
  expect_refused([](Parts& p) { p.hash = "x"; }, "tokenizer x");
  expect_refused([](Parts& p) { p.tokens.pop_back(); }, "dataset 'tokens' has 1 dims and 4 rows");
  expect_refused([](Parts& p) { p.tokens[1] = 9; }, "checksum");
  expect_refused([](Parts& p) { p.offsets = {0, 5}; }, "documents/offsets");
  expect_refused([](Parts& p) { p.offsets = {1, 3, 5}; }, "runs from 1 to 5");
  expect_refused([](Parts& p) { p.offsets = {0, 3, 4}; }, "runs from 0 to 4");
  expect_refused([](Parts& p) { p.offsets = {0, 0, 5}; }, "dataset 'documents/offsets', offset 0");
  expect_refused([](Parts& p) { p.offsets = {0, 9, 5}; }, "dataset 'documents/offsets', offset 0");
  expect_refused([](Parts& p) { p.bytes = {3, -1}; }, "dataset 'documents/bytes', offset 1");
  expect_refused([](Parts& p) { p.bytes = {INT64_MAX, INT64_MAX}; }, "dataset 'documents/bytes', offset 0");
  expect_refused([](Parts& p) { p.bytes = {2, 0}; }, "sums to 2");
  expect_refused([](Parts& p) { p.names.pop_back(); }, "1 entries for 2 documents");
}

TEST_F(ShardTest, ATokenOutsideTheVocabularyIsNamedWithItsOffset) {
  parts_.tokens[3] = 300;
  write(parts_);
  const std::vector<uint32_t> tokens(parts_.tokens.begin(), parts_.tokens.end());
  // With a checksum that fits: the check of each token must find it.
  manifest_.splits["train"].shards[0].checksum =
      to_hex(mix_bits(hash_tokens(tokens.data(), 5, kTokenHashSeed)));
  write_manifest(dir_, manifest_);
  EXPECT_NE(message_of<DataError>([&] { use(); }).find("dataset 'tokens', offset 3: token 300"),
            std::string::npos);
}

TEST_F(ShardTest, TokensOfAnotherTypeOrShapeAreDataErrors) {
  const std::vector<double> numbers(5, 1.0);
  write(parts_, [&](Hdf5File& file) { file.write("tokens", {5}, numbers.data()); });
  EXPECT_NE(message_of<DataError>([&] { use(); }).find("float64"), std::string::npos);
  write(parts_, [&](Hdf5File& file) { file.write("tokens", {5, 1}, numbers.data()); });
  EXPECT_THROW(use(), DataError);
  write(parts_, [&](Hdf5File& file) { file.write("tokens", {}, numbers.data()); });
  EXPECT_THROW(use(), DataError);
  write(parts_, [&](Hdf5File& file) { file.write_strings("tokens", {"1", "2", "3", "4", "5"}); });
  EXPECT_THROW(use(), DataError);
  write(parts_, [&](Hdf5File&) {});
  EXPECT_NE(message_of<DataError>([&] { use(); }).find("'tokens'"), std::string::npos);
}

TEST_F(ShardTest, CutOffFilesAreDataErrors) {
  const std::string content = read_file(shard(0), "shard");
  for (size_t length = 0; length < content.size(); length += 1 + content.size() / 40) {
    write_text(shard(0), content.substr(0, length));
    EXPECT_THROW(use(), DataError) << "cut to " << length << " of " << content.size() << " bytes";
  }
}

TEST_F(ShardTest, AnotherTokenizersModelIsDataError) {
  manifest_.tokenizer_kind = "sentencepiece";
  write_manifest(dir_, manifest_);
  EXPECT_NE(message_of<DataError>([&] { use(); }).find("manifest.json"), std::string::npos);
  manifest_.tokenizer_bytes = "something else";
  write_manifest(dir_, manifest_);
  EXPECT_NE(message_of<DataError>([&] { use(); }).find("manifest.json"), std::string::npos);
}

TEST(Base64, EveryContentComesBackAndOtherSpellingsAreRefused) {
  EXPECT_EQ(to_base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(to_base64("fooba"), "Zm9vYmE=");
  EXPECT_EQ(to_base64("foob"), "Zm9vYg==");
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
    bytes += static_cast<char>(mix_bits(static_cast<uint64_t>(i)));
  }
  for (const char* text : {"Zm9vYmE", "Zm9vYh==", "Zm9v=Zm9v", "Zm 9", "=", "Zm9vYmFy\n"})
    EXPECT_FALSE(from_base64(text)) << text;
}

TEST_F(DatasetTest, ATokenizerIsReadFromTheManifestAndInVersion2FromBeside) {
  TemporaryFolder text;
  std::string words;
  for (uint64_t i = 0; i < 2000; ++i) words += some_text(1 + i % 5, i % 37) + (i % 9 == 0 ? "\n" : " ");
  write_text(text / "f", words);
  const auto tokenizer = make_tokenizer(
      "sentencepiece", train_sentencepiece(find_documents({text.path()}, {}), {400, 1'000'000}), "test");
  Manifest manifest = write_dataset(dir_, {{"a", "some text"}}, *tokenizer, 1000);
  EXPECT_EQ(Split(dir_).tokenizer().serialized(), tokenizer->serialized());
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/tokenizer.model"));
  EXPECT_TRUE(check_dataset(dir_).problems.empty());

  auto root = nlohmann::json::parse(read_file(dir_ + "/manifest.json", "manifest"));
  root["version"] = 2;
  root["tokenizer"].erase("model");
  root["tokenizer"]["file"] = "tokenizer.model";
  write_text(dir_ + "/manifest.json", root.dump());
  EXPECT_NE(message_of<UnavailableError>([&] { Split(dir_).tokenizer(); }).find("tokenizer.model"),
            std::string::npos);
  write_text(dir_ + "/tokenizer.model", tokenizer->serialized());
  EXPECT_EQ(Split(dir_).tokenizer().serialized(), tokenizer->serialized());
  EXPECT_TRUE(check_dataset(dir_).problems.empty());
}

TEST_F(DatasetTest, FlippedBytesNeverGiveOtherTokens) {
  const std::string content = read_file(shard(0), "shard");
  for (uint64_t i = 0; i < 300; ++i) {
    std::string damaged = content;
    damaged[mix_bits(i) % content.size()] ^= static_cast<char>(1 + mix_bits(i + 1000) % 255);
    write_text(shard(0), damaged);
    try {
      const Split split(dir_);
      EXPECT_EQ(read(split, 0, split.num_tokens()), stream_);
    } catch (const DataError&) {
    }
  }
}

TEST_F(DatasetTest, AFolderWithOtherFilesIsNeverReplaced) {
  write_text(dir_ + "/notes.txt", "mine");
  EXPECT_THROW(prepare_dataset_folder(dir_, {"train"}, ExistingDataset::kReplace), ConfigError);
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/notes.txt"));
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/manifest.json"));
}

TEST_F(DatasetTest, AnExistingDataSetIsReplacedOnlyOnRequest) {
  EXPECT_THROW(prepare_dataset_folder(dir_, {"train"}, ExistingDataset::kRefuse), ConfigError);
  EXPECT_TRUE(std::filesystem::exists(shard(0)));
  prepare_dataset_folder(dir_, {"train"}, ExistingDataset::kReplace);
  EXPECT_FALSE(std::filesystem::exists(shard(0)));
  EXPECT_TRUE(std::filesystem::is_directory(dir_ + "/train"));
}

}  // namespace
}  // namespace fwl

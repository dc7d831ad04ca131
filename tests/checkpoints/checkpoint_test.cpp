#include "checkpoints/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "checkpoints/finite.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/checkpoints/saved_model.h"
#include "tests/support/hostile_json.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// The whole checkpoint as `fwl inspect --verify` checks it.
void verify(const std::string& path) {
  CheckpointReader reader(path);
  reader.check_files();
  reader.check_slices();
}

TEST(Checkpoint, RoundTripIsBitExact) {
  TemporaryFolder folder;
  SavedModel written(1), read(2);
  ASSERT_FALSE(read.same_as(written));
  const std::string path = written.save(folder.path(), 10);
  read.load(path);
  EXPECT_TRUE(read.same_as(written));
  const CheckpointInfo info = read_checkpoint_info(path), expected = SavedModel::info_at(10);
  EXPECT_EQ(info.progress.step, 10);
  EXPECT_EQ(info.progress.samples, 80);
  EXPECT_EQ(info.progress.loss_sum, 0.1 + 0.2);
  EXPECT_EQ(info.learning_rate.next, expected.learning_rate.next);
  EXPECT_EQ(info.data.sequence_hash, expected.data.sequence_hash);
  EXPECT_EQ(info.data.rolling_hash, expected.data.rolling_hash);
  EXPECT_EQ(info.data.seed, 7);
  EXPECT_EQ(info.config_yaml, "a: 1\n");
  EXPECT_EQ(info.program.count("libtorch"), 1u);
  EXPECT_EQ(read_file(folder / "latest", "latest"), "step-0000010\n");
  verify(path);
}

TEST(Checkpoint, AnyNumberOfWritersIsReadByAnyNumberOfReaders) {
  TemporaryFolder folder;
  SavedModel written(1);
  for (const int writers : {1, 3, 4, 7}) {
    const std::string path = written.save(folder.path(), writers, {}, writers);
    SavedModel read(2);
    read.load(path);
    EXPECT_TRUE(read.same_as(written)) << writers << " writers";
    for (const int readers : {2, 5}) {
      CheckpointReader reader(path);
      Parameters& parameters = read.model.parameters();
      for (int r = 0; r < readers; ++r) {
        const ElementRange own = part_of({0, parameters.count()}, r, readers);
        Tensor part = at::zeros({own.count});
        read_flat(reader, "second_moments", parameters, {own}, part);
        EXPECT_TRUE(at::equal(part, written.optimizer.second_moments().narrow(0, own.first, own.count)))
            << writers << " writers, reader " << r << " of " << readers;
      }
    }
  }
}

TEST(Checkpoint, RowsOfCarriedTensorsAreReadByAnyLayout) {
  TemporaryFolder folder;
  const Tensor rows = at::randn({6, 2, 3});
  const Tensor starts = at::randint(256, {6, 4}).to(at::kByte);
  const Tensor rounded = rows.to(at::kBFloat16);
  const std::string writing = prepare_checkpoint(folder.path(), 1);
  for (int r = 0; r < 3; ++r)
    write_part(writing, r,
               {row_block("carried/state", rows.narrow(0, 2 * r, 2), 2 * r, 6),
                row_block("carried/starts", starts.narrow(0, 2 * r, 2), 2 * r, 6),
                row_block("carried/keys", rounded.narrow(0, 2 * r, 2), 2 * r, 6)});
  CheckpointReader reader(publish_checkpoint(folder.path(), SavedModel::info_at(1, 3), {}));
  const auto read_rows = [&](const std::string& name, const Tensor& like, int64_t first, int64_t count) {
    const int64_t row = like.numel() / like.size(0);
    Tensor out = at::empty({count * row}, like.options());
    reader.read(name, first * row, out);
    return at::equal(out, like.narrow(0, first, count).reshape({-1}));
  };
  EXPECT_EQ(reader.entry("carried/state").shape, (std::vector<int64_t>{6, 2, 3}));
  EXPECT_TRUE(read_rows("carried/state", rows, 0, 6));
  EXPECT_TRUE(read_rows("carried/state", rows, 3, 3));
  EXPECT_TRUE(read_rows("carried/starts", starts, 1, 4));
  EXPECT_TRUE(read_rows("carried/keys", rounded, 5, 1));
}

TEST(Checkpoint, SlicesLongerThanTheLimitAreCut) {
  TemporaryFolder folder;
  const Tensor rows = at::arange(9 << 20, at::kFloat).view({9, 1 << 20});
  const std::string path =
      write_checkpoint(folder.path(), SavedModel::info_at(1), {row_block("carried/x", rows, 0, 9)});
  CheckpointReader reader(path);
  EXPECT_EQ(reader.entry("carried/x").slices.size(), 3u);
  Tensor out = at::empty({9 << 20});
  reader.read("carried/x", 0, out);
  EXPECT_TRUE(at::equal(out, rows.view({-1})));
}

TEST(Checkpoint, AKilledWriterLeavesPreviousLoadable) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string good = run.save(folder.path(), 10);
  const std::string writing = prepare_checkpoint(folder.path(), 20);
  write_part(writing, 0, run.blocks(0, 2));
  EXPECT_EQ(find_checkpoint(folder.path()), good);
  EXPECT_EQ(list_unfinished(folder.path()).size(), 1u);
  run.save(folder.path(), 30);
  EXPECT_TRUE(list_unfinished(folder.path()).empty()) << "the next writer removes what a killed one left";
}

TEST(Checkpoint, AMissingPartIsNotPublished) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string good = run.save(folder.path(), 10);
  const std::string writing = prepare_checkpoint(folder.path(), 20);
  write_part(writing, 0, run.blocks(0, 2));
  EXPECT_THROW(publish_checkpoint(folder.path(), SavedModel::info_at(20, 2), {}), UnavailableError);
  write_part(writing, 1, {});
  EXPECT_THROW(publish_checkpoint(folder.path(), SavedModel::info_at(20, 2), {}), DataError)
      << "elements are missing";
  EXPECT_EQ(find_checkpoint(folder.path()), good);
}

TEST(Checkpoint, TheSameStepAgainReplacesTheFolder) {
  TemporaryFolder folder;
  SavedModel first(1), second(2), read(3);
  first.save(folder.path(), 10);
  const std::string path = second.save(folder.path(), 10, {}, 2);
  read.load(path);
  EXPECT_TRUE(read.same_as(second));
  EXPECT_EQ(list_checkpoints(folder.path()).size(), 1u);
  EXPECT_TRUE(list_unfinished(folder.path()).empty());
}

// A kill at any moment of the exchange must find one of the two.
TEST(Checkpoint, TheSameStepIsThereWhileItIsReplaced) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string path = run.save(folder.path(), 10);
  std::atomic<bool> done = false;
  std::atomic<int> gaps = 0;
  std::thread looks([&] {
    while (!done)
      if (!fs::exists(path)) ++gaps;
  });
  for (int i = 0; i < 40; ++i) run.save(folder.path(), 10);
  done = true;
  looks.join();
  EXPECT_EQ(gaps, 0);
}

TEST(Checkpoint, WhatIsNotFiniteIsFoundByName) {
  TemporaryFolder folder;
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), -1e19}) {
    SavedModel run(1);
    EXPECT_TRUE(is_sound(run.blocks(0, 1)));
    run.model.parameters().values().detach().select(0, 5).fill_(bad);
    EXPECT_FALSE(is_sound(run.blocks(0, 1))) << bad;
    CheckpointReader reader(run.save(folder.path(), 10));
    EXPECT_EQ(reader.check_slices(),
              std::vector<std::string>{"weights/" + run.model.parameters().all().front().name});
  }
  SavedModel run(1);
  run.optimizer.second_moments().select(0, 0).fill_(std::nan(""));
  EXPECT_FALSE(is_sound(run.blocks(0, 1)));
  run.optimizer.second_moments().select(0, 0).fill_(1e30);
  EXPECT_TRUE(is_sound(run.blocks(0, 1))) << "moments may be large";
  CheckpointInfo info = SavedModel::info_at(20);
  EXPECT_FALSE(read_checkpoint_info(write_checkpoint(folder.path(), info, run.blocks(0, 1))).is_finite);
  info.is_finite = true;
  EXPECT_TRUE(read_checkpoint_info(write_checkpoint(folder.path(), info, run.blocks(0, 1))).is_finite);
}

// Retention of a run that goes on removes what a reader has just found.
TEST(Checkpoint, AReaderGoesOnWithTheNewestWhenItsOwnIsRemoved) {
  TemporaryFolder folder;
  SavedModel run(1);
  run.save(folder.path(), 10);
  int tries = 0;
  const std::string read = with_checkpoint(folder.path(), [&](const std::string& step_dir) {
    if (++tries == 1) run.save(folder.path(), 20, {1, 0});
    return read_checkpoint_info(step_dir).path;
  });
  EXPECT_EQ(read, folder / "step-0000020");
  write_text(read + "/manifest.json", "damaged");
  EXPECT_THROW(with_checkpoint(folder.path(), read_checkpoint_info), DataError)
      << "damage is not tried again";
}

TEST(Checkpoint, OldOnesGoAfterTheNewOneIsThereExceptThoseToKeep) {
  TemporaryFolder folder;
  SavedModel run(1);
  for (const int64_t step : {10, 20, 30, 40, 50}) run.save(folder.path(), step, {2, 20});
  std::vector<std::string> left;
  for (const std::string& path : list_checkpoints(folder.path())) left.push_back(fs::path(path).filename());
  EXPECT_EQ(left, (std::vector<std::string>{"step-0000050", "step-0000040", "step-0000020"}));
}

// Where an old one cannot go, say since a reader holds its files on NFS, the new one is saved all the same.
TEST(Checkpoint, ANewOneIsWholeWhateverBecomesOfTheOldOnes) {
  TemporaryFolder folder;
  SavedModel run(1);
  for (const int64_t step : {10, 20}) run.save(folder.path(), step);
  write_part(prepare_checkpoint(folder.path(), 30), 0, run.blocks(0, 1));
  write_text(folder / ".writing-removed-step-0000010/x", "in the way");
  testing::internal::CaptureStderr();
  const std::string saved = publish_checkpoint(folder.path(), SavedModel::info_at(30), {1, 0});
  EXPECT_NE(testing::internal::GetCapturedStderr().find("cannot be removed"), std::string::npos);
  verify(saved);
  EXPECT_EQ(list_checkpoints(folder.path()), (std::vector<std::string>{saved, folder / "step-0000010"}));
  const std::string next = run.save(folder.path(), 40, {1, 0});
  EXPECT_EQ(list_checkpoints(folder.path()), std::vector<std::string>{next}) << "tried again";
}

// Resumed from step 20 since the later ones are damaged or unwanted: they must not push out the new ones.
TEST(Checkpoint, LaterStepsGoAsideWhenTheRunWentOnFromBeforeThem) {
  TemporaryFolder folder;
  SavedModel model(1);
  for (const int64_t step : {20, 30, 40}) model.save(folder.path(), step);
  const std::string saved = model.save(folder.path(), 25, {1, 0});
  EXPECT_EQ(list_checkpoints(folder.path()), std::vector<std::string>{saved});
  EXPECT_EQ(find_checkpoint(folder.path()), saved);
  EXPECT_EQ(read_file(folder / "latest", "latest"), "step-0000025\n");
  verify(folder / "aside-step-0000040");
  model.save(folder.path(), 30);
  model.save(folder.path(), 26);
  verify(folder / "aside-step-0000030");
  verify(folder / "aside-step-0000030.2");
}

TEST(Checkpoint, AFolderThatCannotBeListedIsNotTakenForEmpty) {
  TemporaryFolder folder;
  EXPECT_TRUE(list_checkpoints(folder / "none").empty());
  EXPECT_THROW(list_checkpoints(folder / std::string(300, 'x')), UnavailableError);
}

TEST(Checkpoint, StepsAreOrderedByNumber) {
  TemporaryFolder folder;
  SavedModel run(1);
  run.save(folder.path(), 9999999);
  const std::string newest = run.save(folder.path(), 10000000);
  EXPECT_EQ(find_checkpoint(folder.path()), newest);
}

TEST(Checkpoint, EveryFlippedByteIsFound) {
  TemporaryFolder folder;
  SavedModel run(1);
  CheckpointInfo info = SavedModel::info_at(10);
  info.tokenizer_kind = "sentencepiece";
  info.tokenizer_bytes = "the bytes of a tokenizer";
  const std::string path = write_checkpoint(folder.path(), info, run.blocks(0, 1));
  verify(path);
  for (const auto& [name, tries] :
       {std::pair{"rank-00000.h5", 200}, {"manifest.json", 200}, {"tokenizer.model", 24}}) {
    const std::string file = path + "/" + name;
    const std::string whole = read_file(file, "part");
    for (int i = 0; i < tries; ++i) {
      std::string damaged = whole;
      const size_t at_byte = (whole.size() - 1) * static_cast<size_t>(i) / static_cast<size_t>(tries - 1);
      damaged[at_byte] = static_cast<char>(damaged[at_byte] ^ (1 << (i % 8)));
      write_text(file, damaged);
      EXPECT_THROW(verify(path), DataError) << name << " byte " << at_byte;
    }
    write_text(file, whole);
  }
  verify(path);
}

TEST(Checkpoint, ADamagedSliceIsNeverReadAsWeights) {
  TemporaryFolder folder;
  SavedModel written(1);
  const std::string path = written.save(folder.path(), 10);
  const std::string file = path + "/rank-00000.h5";
  const std::string whole = read_file(file, "part");
  int refused = 0;
  const int tries = 60;
  for (int i = 0; i < tries; ++i) {
    std::string damaged = whole;
    const size_t at_byte = (whole.size() - 1) * static_cast<size_t>(i) / (tries - 1);
    damaged[at_byte] = static_cast<char>(damaged[at_byte] ^ 0x10);
    write_text(file, damaged);
    SavedModel read(2);
    try {
      read.load(path);
      // A byte of padding or of unused metadata: then all that was read must be right.
      EXPECT_TRUE(read.same_as(written)) << "byte " << at_byte << " was read wrong without an error";
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, tries / 2);
}

TEST(Checkpoint, CutOffMissingAndForeignFilesAreDataErrors) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string path = run.save(folder.path(), 10);
  EXPECT_THROW(find_checkpoint(folder / "nowhere"), DataError);
  EXPECT_THROW(find_checkpoint(path + "/../../.."), DataError);
  const std::string whole = read_file(path + "/rank-00000.h5", "part");
  write_text(path + "/rank-00000.h5", whole.substr(0, whole.size() / 2));
  EXPECT_THROW(run.load(path), DataError);
  fs::remove(path + "/rank-00000.h5");
  EXPECT_THROW(run.load(path), DataError);
  for (const char* manifest : {"", "{", "[]", "{\"format\": \"fwl-checkpoint\", \"version\": 99}",
                               "{\"format\": \"fwl-checkpoint\", \"version\": 2}"}) {
    write_text(path + "/manifest.json", manifest);
    EXPECT_THROW(read_checkpoint_info(path), DataError) << manifest;
  }
}

using nlohmann::json;

// As a writer would have sealed it, whatever it says.
std::string sealed(json object) {
  object.erase("checksum");
  object["checksum"] = checksum_text(checksum_of(object.dump(1)));
  return object.dump(1) + "\n";
}

// The text with a checksum that fits it, where printing it would take all memory.
std::string sealed_text(const std::string& body) {
  return "{\n \"checksum\": \"" + checksum_text(checksum_of("{\n" + body)) + "\",\n" + body + "\n";
}

class HostileCheckpoint : public testing::Test {
 protected:
  std::string manifest_path() const { return path_ + "/manifest.json"; }
  // Whether the checkpoint, with this manifest, is refused as damaged. Anything but that or success is a
  // failure.
  bool is_refused(const std::string& text) {
    write_text(manifest_path(), text);
    try {
      verify(path_);
      run_.load(path_);
      return false;
    } catch (const DataError&) {
      return true;
    }
  }
  TemporaryFolder folder_;
  SavedModel run_{1};
  std::string path_ = run_.save(folder_.path(), 10);
  json good_ = json::parse(read_file(manifest_path(), "manifest"));
};

TEST_F(HostileCheckpoint, ASealedManifestIsReadAgain) {
  EXPECT_EQ(sealed(good_), read_file(manifest_path(), "manifest"));
  EXPECT_FALSE(is_refused(sealed(good_)));
}

TEST_F(HostileCheckpoint, NamesLeadNowhereElse) {
  fs::copy_file(path_ + "/rank-00000.h5", folder_ / "outside.h5");
  fs::copy_file(path_ + "/rank-00000.h5", path_ + "/other.h5");
  for (const std::string name : {"../outside.h5", "../../etc/hostname", "/etc/hostname", "other.h5",
                                 "rank-0.h5", "", ".", "manifest.json", "rank-00000.h5/../../outside.h5",
                                 "rank-00000.h5x", "rank-0000x.h5", "rank-00001.h5"}) {
    json renamed = good_;
    const json file = renamed["files"]["rank-00000.h5"];
    renamed["files"].erase("rank-00000.h5");
    renamed["files"][name] = file;
    for (auto& [tensor, entry] : renamed["tensors"].items())
      for (json& slice : entry["slices"]) slice[0] = name;
    EXPECT_TRUE(is_refused(sealed(renamed))) << name;
    json added = good_;
    added["files"][name] = file;
    EXPECT_TRUE(is_refused(sealed(added))) << name << ", beside the others";
  }
  ASSERT_FALSE(is_refused(sealed(good_)));
  fs::rename(path_ + "/rank-00000.h5", folder_ / "elsewhere.h5");
  fs::create_symlink("../elsewhere.h5", path_ + "/rank-00000.h5");
  EXPECT_TRUE(is_refused(sealed(good_))) << "a link out of the folder";
}

TEST_F(HostileCheckpoint, DepthIsBoundedWhateverTheChecksumSays) {
  for (const int depth : {100, 40'000, 400'000}) {
    const std::string open(static_cast<size_t>(depth), '['), close(static_cast<size_t>(depth), ']');
    for (const std::string& body : {" \"config\": " + open + close + "\n}", " \"config\": " + open + "\n}"})
      EXPECT_TRUE(is_refused(sealed_text(body))) << depth;
    EXPECT_TRUE(is_refused(open + close)) << depth;
  }
}

// Every value of the manifest, one after the other, is replaced by what a writer would never put there.
TEST_F(HostileCheckpoint, AnyValueIsRefusedOrHarmless) {
  int refused = 0, tried = 0;
  const json leaves = good_.flatten();
  for (const auto& [place, ignored] : leaves.items()) {
    if (place == "/checksum") continue;
    for (const json& value : hostile_values()) {
      json changed = good_;
      changed[json::json_pointer(place)] = value;
      ++tried;
      refused += is_refused(sealed(changed)) ? 1 : 0;
    }
    // One level up: lists and objects become something else.
    const json::json_pointer above = json::json_pointer(place).parent_pointer();
    if (above.empty()) continue;
    json changed = good_;
    changed[above] = 7;
    EXPECT_TRUE(is_refused(sealed(changed))) << place;
  }
  EXPECT_GT(refused, tried / 2);
}

TEST_F(HostileCheckpoint, SizesAreThoseOfTheFile) {
  const auto first = [](json& m) -> json& { return m["tensors"].begin().value(); };
  const std::vector<std::pair<const char*, std::function<void(json&)>>> edits = {
      {"a slice of 2^40 elements",
       [&](json& m) {
         first(m)["shape"] = {int64_t{1} << 40};
         first(m)["slices"][0][3] = int64_t{1} << 40;
       }},
      {"a shape whose product overflows",
       [&](json& m) {
         first(m)["shape"] = {int64_t{1} << 45, int64_t{1} << 45};
       }},
      {"a negative slice", [&](json& m) { first(m)["slices"][0][3] = -1; }},
      {"dims without end", [&](json& m) { first(m)["shape"] = std::vector<int64_t>(100000, 1); }},
      {"a thousand slices of one dataset",
       [&](json& m) {
         json slice = first(m)["slices"][0];
         slice[3] = int64_t{4} << 20;
         first(m)["slices"] = json::array();
         for (int64_t i = 0; i < 1000; ++i) {
           slice[2] = i * (int64_t{4} << 20);
           first(m)["slices"].push_back(slice);
         }
         first(m)["shape"] = {int64_t{4000} << 20};
       }},
  };
  for (const auto& [what, edit] : edits) {
    json changed = good_;
    edit(changed);
    EXPECT_TRUE(is_refused(sealed(changed))) << what;
  }
}

TEST(Checkpoint, FilesOfManyRanksAreReadWithFewDescriptors) {
  TemporaryFolder folder;
  SavedModel written(1), read(2);
  const std::string path = written.save(folder.path(), 10, {}, 12);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const auto open_now = std::distance(fs::directory_iterator("/proc/self/fd"), {}) - 1;
  const rlimit few{static_cast<rlim_t>(open_now) + 4, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  EXPECT_NO_THROW(read.load(path));
  EXPECT_NO_THROW(verify(path));
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_TRUE(read.same_as(written));
}

TEST(Checkpoint, WhatCannotBeReadIsNoDamage) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string path = run.save(folder.path(), 10);
  // A circle of links is the error of the system that root meets too.
  fs::remove(path + "/rank-00000.h5");
  fs::create_symlink("rank-00000.h5", path + "/rank-00000.h5");
  EXPECT_THROW(run.load(path), UnavailableError);
  EXPECT_THROW(verify(path), UnavailableError);
}

TEST(Checkpoint, Version1IsRefusedByName) {
  TemporaryFolder folder;
  write_text(folder / "step-00000010/state.h5", "x");
  write_text(folder / "step-00000010/manifest.json", "{\"format\": \"fwl-checkpoint\", \"version\": 1}");
  try {
    read_checkpoint_info(find_checkpoint(folder.path()));
    FAIL() << "was read";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("version 1"), std::string::npos) << error.what();
  }
}

TEST(Checkpoint, AnotherModelsCheckpointIsRefused) {
  TemporaryFolder folder;
  SavedModel run(1);
  const std::string path = run.save(folder.path(), 10);
  ModelConfig wider = small_model_config();
  wider.width = 32;
  LanguageModel other(wider, at::kCPU, at::kFloat, 1);
  EXPECT_THROW(read_checkpoint_tensors(path, other.parameters()), DataError);
  LanguageModel wide_type(small_model_config(), at::kCPU, at::kDouble, 1);
  EXPECT_THROW(read_checkpoint_tensors(path, wide_type.parameters()), DataError);
}

}  // namespace
}  // namespace fwl

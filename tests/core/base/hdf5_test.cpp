#include "core/base/hdf5.h"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <numeric>
#include <thread>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

using Shape = std::vector<int64_t>;

class Hdf5Test : public testing::Test {
 protected:
  std::string path() const { return folder_ / "file.h5"; }
  template <typename E, typename Action>
  static std::string message_of(const Action& action) {
    try {
      action();
    } catch (const E& error) {
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
};

template <typename T>
std::vector<T> ramp(int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), T{0});
  return values;
}

template <typename T>
void expect_kept(const std::string& path, const std::string& type) {
  const std::vector<T> values = ramp<T>(60);
  Hdf5File out = Hdf5File::create(path);
  out.write("group/values", {5, 12}, values.data());
  out.write("packed", {60}, values.data(), {16, 4, true});
  out.close();
  const Hdf5File in = Hdf5File::open(path, "test file");
  EXPECT_EQ(in.read<T>("group/values"), values);
  EXPECT_EQ(in.read<T>("packed"), values);
  EXPECT_EQ(in.shape("group/values"), (Shape{5, 12}));
  EXPECT_EQ(in.element_type("packed"), type);
  std::vector<T> rows(24);
  in.read_rows("group/values", 2, 2, rows.data());
  EXPECT_EQ(rows, std::vector<T>(values.begin() + 24, values.begin() + 48));
}

TEST_F(Hdf5Test, KeepsEveryElementType) {
  expect_kept<uint8_t>(path(), "uint8");
  expect_kept<uint16_t>(path(), "uint16");
  expect_kept<int32_t>(path(), "int32");
  expect_kept<uint32_t>(path(), "uint32");
  expect_kept<int64_t>(path(), "int64");
  expect_kept<uint64_t>(path(), "uint64");
  expect_kept<float>(path(), "float32");
  expect_kept<double>(path(), "float64");
}

TEST_F(Hdf5Test, KeepsScalarsEmptyArraysAndStrings) {
  const double scalar = 2.5;
  Hdf5File out = Hdf5File::create(path());
  out.write("scalar", {}, &scalar);
  out.write<int64_t>("empty", {0}, nullptr, {16, 4, true});
  out.write_strings("names", {"a", "", "\xC3\xA9"});
  out.write_strings("nothing", {});
  out.close();
  const Hdf5File in = Hdf5File::open(path(), "test file");
  EXPECT_EQ(in.read<double>("scalar"), std::vector<double>{2.5});
  EXPECT_EQ(in.shape("scalar"), Shape{});
  EXPECT_TRUE(in.read<int64_t>("empty").empty());
  EXPECT_EQ(in.read_strings("names"), (std::vector<std::string>{"a", "", "\xC3\xA9"}));
  EXPECT_TRUE(in.read_strings("nothing").empty());
  EXPECT_EQ(in.datasets(), (std::vector<std::string>{"empty", "names", "nothing", "scalar"}));
}

TEST_F(Hdf5Test, KeepsAttributes) {
  Hdf5File out = Hdf5File::create(path());
  out.set_attribute("text", std::string("hello"));
  out.set_attribute("whole", int64_t{1} << 60);
  out.set_attribute("number", 0.125);
  out.set_attribute("text", std::string("again"));
  out.close();
  const Hdf5File in = Hdf5File::open(path(), "test file");
  EXPECT_EQ(in.string_attribute("text"), "again");
  EXPECT_EQ(in.integer_attribute("whole"), int64_t{1} << 60);
  EXPECT_EQ(in.number_attribute("number"), 0.125);
  EXPECT_TRUE(in.has_attribute("text"));
  EXPECT_FALSE(in.has_attribute("other"));
  EXPECT_THROW(in.integer_attribute("text"), DataError);
  EXPECT_THROW(in.string_attribute("whole"), DataError);
  EXPECT_THROW(in.string_attribute("other"), DataError);
}

TEST_F(Hdf5Test, ErrorsNamePathAndDataset) {
  Hdf5File out = Hdf5File::create(path());
  const std::vector<int64_t> values = ramp<int64_t>(4);
  out.write("values", {4}, values.data());
  out.close();
  const Hdf5File in = Hdf5File::open(path(), "test file");
  for (const std::string& message : {message_of<DataError>([&] { in.read<int64_t>("missing"); }),
                                     message_of<DataError>([&] { in.shape("missing"); })}) {
    EXPECT_NE(message.find(path()), std::string::npos) << message;
    EXPECT_NE(message.find("'missing'"), std::string::npos) << message;
  }
  std::vector<int64_t> rows(9);
  EXPECT_THROW(in.read_rows("values", 3, 2, rows.data()), DataError);
  EXPECT_THROW(in.read_rows("values", -1, 2, rows.data()), DataError);
  EXPECT_THROW(in.read_strings("values"), DataError);
  EXPECT_FALSE(in.has("missing/deeper"));
}

TEST_F(Hdf5Test, WhatIsNoHdf5FileIsDataError) {
  EXPECT_THROW(Hdf5File::open(folder_.path(), "test file"), DataError);
  for (const std::string& content :
       {std::string(), std::string("hello"), std::string("\x89HDF\r\n\x1a\n"), std::string(4096, '\0')}) {
    write_text(path(), content);
    EXPECT_THROW(Hdf5File::open(path(), "test file"), DataError);
  }
  EXPECT_THROW(Hdf5File::create(folder_ / "no/such/folder/file.h5"), DataError);
}

TEST_F(Hdf5Test, WhatCannotBeReadIsUnavailableAndNotDamaged) {
  std::filesystem::create_symlink("circle", folder_ / "circle");
  std::filesystem::create_symlink("nowhere", folder_ / "broken");
  const std::vector<std::pair<std::string, std::string>> cases = {{"none.h5", "No such file"},
                                                                  {"circle", "symbolic links"},
                                                                  {"broken", "a link to 'nowhere'"},
                                                                  {std::string(300, 'x'), "too long"}};
  for (const auto& [name, words] : cases) {
    const std::string message =
        message_of<UnavailableError>([&] { Hdf5File::open(folder_ / name, "golden file"); });
    EXPECT_NE(message.find("golden file"), std::string::npos) << name << ": " << message;
    EXPECT_NE(message.find(words), std::string::npos) << name << ": " << message;
  }
}

// The number of descriptors that this process may have, while the object lives.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t soft) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit limit{soft, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

int64_t descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}) - 1;
}

TEST_F(Hdf5Test, ManyFilesAreReadWithFewDescriptors) {
  constexpr int32_t kFiles = 40;
  const auto name = [&](int32_t i) { return cat(folder_.path(), "/", i, ".h5"); };
  for (int32_t i = 0; i < kFiles; ++i) {
    Hdf5File out = Hdf5File::create(name(i));
    out.write("value", {1}, &i);
    out.close();
  }
  std::vector<Hdf5File> files;
  {
    const DescriptorLimit limit(static_cast<rlim_t>(descriptors()) + 6);
    for (int32_t i = 0; i < kFiles; ++i) files.push_back(Hdf5File::open(name(i), "test file"));
    for (int32_t i = 0; i < 3 * kFiles; ++i) {
      const auto at = static_cast<size_t>(i * 7 % kFiles);
      EXPECT_EQ(files[at].read<int32_t>("value"), std::vector<int32_t>{static_cast<int32_t>(at)});
    }
  }
  std::filesystem::copy_file(name(1), name(0), std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(
      message_of<UnavailableError>([&] { files[0].read<int32_t>("value"); }).find("replaced or changed"),
      std::string::npos);
  const DescriptorLimit none(1);
  EXPECT_NE(
      message_of<UnavailableError>([&] { Hdf5File::open(name(2), "shard"); }).find("Too many open files"),
      std::string::npos);
}

TEST_F(Hdf5Test, AMissingFilterIsNamedAndIsNoDamage) {
  const H5Z_class2_t identity = {
      H5Z_CLASS_T_VERS,
      300,
      1,
      1,
      "identity",
      nullptr,
      nullptr,
      [](unsigned, size_t, const unsigned[], size_t bytes, size_t*, void**) { return bytes; }};
  const std::vector<int32_t> values = ramp<int32_t>(64);
  {
    H5Zregister(&identity);
    const hid_t file = H5Fcreate(path().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hsize_t rows = 64;
    const hid_t space = H5Screate_simple(1, &rows, nullptr), properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(properties, 1, &rows);
    H5Pset_filter(properties, 300, H5Z_FLAG_MANDATORY, 0, nullptr);
    const hid_t made =
        H5Dcreate2(file, "values", H5T_NATIVE_INT32, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    H5Dwrite(made, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    ASSERT_GE(H5Dclose(made), 0);
    ASSERT_GE(H5Pclose(properties), 0);
    ASSERT_GE(H5Sclose(space), 0);
    ASSERT_GE(H5Fclose(file), 0);
    ASSERT_GE(H5Zunregister(300), 0);
  }
  const Hdf5File in = Hdf5File::open(path(), "shard");
  const std::string message = message_of<UnavailableError>([&] { in.read<int32_t>("values"); });
  for (const std::string words : {"'values'", "number 300", "HDF5_PLUGIN_PATH"})
    EXPECT_NE(message.find(words), std::string::npos) << message;
  H5Zregister(&identity);
  EXPECT_EQ(in.read<int32_t>("values"), values);
  H5Zunregister(300);
}

// Each thread of the library has its own stack of errors, and its own wish to print it.
TEST_F(Hdf5Test, TheLibraryPrintsNothingInAnyThread) {
  testing::internal::CaptureStderr();
  std::thread([&] {
    write_text(path(), "no HDF5");
    EXPECT_THROW(Hdf5File::open(path(), "test file"), DataError);
    EXPECT_THROW(Hdf5File::create(folder_ / "no/folder.h5"), DataError);
  }).join();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(Hdf5Test, ChecksumFindsAFlippedBit) {
  std::vector<uint32_t> values(4096);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint32_t>(mix_bits(i));
  Hdf5File out = Hdf5File::create(path());
  out.write("values", {4096}, values.data(), {4096, 0, true});
  out.close();
  std::string content = read_file(path(), "test file");
  const std::string needle(reinterpret_cast<const char*>(&values[2000]), 16);
  const size_t at = content.find(needle);
  ASSERT_NE(at, std::string::npos);
  content[at] ^= 1;
  write_text(path(), content);
  const Hdf5File in = Hdf5File::open(path(), "test file");
  EXPECT_NE(message_of<DataError>([&] { in.read<uint32_t>("values"); }).find("'values'"), std::string::npos);
}

// The old format has no checksums on its headers: the number of rows, and of bytes, is replaced by an absurd
// one.
TEST_F(Hdf5Test, NoRoomIsMadeForWhatTheFileCannotHold) {
  constexpr hsize_t kRows = 12345;
  const std::vector<int64_t> values = ramp<int64_t>(kRows);
  const hid_t file = H5Fcreate(path().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(1, &kRows, nullptr);
  const hid_t made =
      H5Dcreate2(file, "values", H5T_NATIVE_INT64, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(made, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  ASSERT_GE(H5Dclose(made), 0);
  ASSERT_GE(H5Sclose(space), 0);
  ASSERT_GE(H5Fclose(file), 0);
  EXPECT_EQ(Hdf5File::open(path(), "test file").read<int64_t>("values"), values);
  std::string content = read_file(path(), "test file");
  const auto replace = [&](uint64_t from, uint64_t to) {
    const std::string bytes(reinterpret_cast<const char*>(&from), sizeof from);
    const size_t header_end = content.find(std::string(reinterpret_cast<const char*>(values.data()), 64));
    for (size_t at = content.find(bytes); at < header_end; at = content.find(bytes, at + 1))
      content.replace(at, sizeof to, reinterpret_cast<const char*>(&to), sizeof to);
  };
  replace(kRows * sizeof(int64_t), uint64_t{1} << 42);
  replace(kRows, uint64_t{1} << 39);
  write_text(path(), content);
  const Hdf5File in = Hdf5File::open(path(), "test file");
  EXPECT_THROW(in.read<int64_t>("values"), DataError);
}

TEST_F(Hdf5Test, CompressesOnlyWhenAsked) {
  const std::vector<int64_t> values(100'000, 7);
  Hdf5File out = Hdf5File::create(path());
  out.write("packed", {100'000}, values.data(), {4096, 4, true});
  out.close();
  EXPECT_LT(std::filesystem::file_size(path()), 100'000u);
}

TEST_F(Hdf5Test, TheSameWritesGiveTheSameBytesAtAnyTime) {
  const std::vector<int64_t> values = ramp<int64_t>(100);
  const auto write = [&] {
    Hdf5File out = Hdf5File::create(path());
    out.set_attribute("format", std::string("x"));
    out.write("group/deep/values", {100}, values.data(), {16, 4, true});
    out.write_strings("group/names", {"a", "b"});
    out.close();
    return read_file(path(), "test file");
  };
  const std::string first = write();
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 counts seconds
  EXPECT_EQ(write(), first);
}

TEST_F(Hdf5Test, ThreadsMayReadTheirOwnFiles) {
  const std::vector<int64_t> values = ramp<int64_t>(20'000);
  for (int t = 0; t < 4; ++t) {
    Hdf5File out = Hdf5File::create(path() + std::to_string(t));
    out.write("values", {20'000}, values.data(), {512, 1, true});
    out.close();
  }
  std::vector<int> equal(4, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        equal[static_cast<size_t>(t)] +=
            Hdf5File::open(path() + std::to_string(t), "test file").read<int64_t>("values") == values;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 20));
}

TEST_F(Hdf5Test, AMovedFromFileIsClosedByItsNewOwnerOnly) {
  const std::vector<int64_t> values = ramp<int64_t>(3);
  Hdf5File first = Hdf5File::create(path());
  Hdf5File second = std::move(first);
  second.write("values", {3}, values.data());
  second.close();
  Hdf5File third = Hdf5File::open(path(), "test file");
  third = Hdf5File::open(path(), "test file");
  EXPECT_EQ(third.read<int64_t>("values"), values);
}

}  // namespace
}  // namespace fwl

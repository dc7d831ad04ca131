#include "checkpoints/safetensors.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

std::vector<std::pair<std::string, Tensor>> some_tensors() {
  return {{"b", at::arange(6, at::kFloat).view({2, 3}).t()},
          {"a", at::arange(5, at::kBFloat16)},
          {"scalar", at::full({}, 0.1, at::kDouble)},
          {"empty", at::empty({0, 4})},
          {"index", at::arange(3, at::kLong)}};
}

// `header` as it stands, followed by `data_bytes` zeros.
std::string file_of(const std::string& header, size_t data_bytes) {
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size() & 0xFF);
  length[1] = static_cast<char>(header.size() >> 8);
  return length + header + std::string(data_bytes, '\0');
}

TEST(Safetensors, WhatIsWrittenIsReadBitForBit) {
  const TemporaryFolder folder;
  write_safetensors(folder / "m.safetensors", some_tensors(), {{"format", "pt"}});
  const SafetensorsFile file(folder / "m.safetensors");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b", "empty", "index", "scalar"}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  for (const auto& [name, tensor] : some_tensors()) {
    EXPECT_EQ(file.read(name).scalar_type(), tensor.scalar_type());
    EXPECT_TRUE(at::equal(file.read(name), tensor)) << name;
  }
  EXPECT_THROW(file.read("c"), DataError);
}

TEST(Safetensors, CutOffAtAnyByteIsRefused) {
  const TemporaryFolder folder;
  write_safetensors(folder / "m.safetensors", some_tensors(), {});
  const std::string whole = read_file(folder / "m.safetensors", "file");
  for (size_t size = 0; size < whole.size(); size += 7) {
    write_text(folder / "cut", whole.substr(0, size));
    EXPECT_THROW(SafetensorsFile(folder / "cut"), DataError) << size << " bytes";
  }
  write_text(folder / "long", whole + "x");
  EXPECT_THROW(SafetensorsFile(folder / "long"), DataError);
  EXPECT_THROW(SafetensorsFile(folder / "none"), UnavailableError);
}

TEST(Safetensors, HostileHeadersAreRefused) {
  const TemporaryFolder folder;
  const auto entry = [](const std::string& shape, int begin, int end) {
    return cat(R"({"dtype":"F32","shape":)", shape, R"(,"data_offsets":[)", begin, ",", end, "]}");
  };
  std::string many_ones;
  for (int i = 0; i < 100; ++i) many_ones += ",1";
  const std::vector<std::string> headers = {
      "[]",
      "{",
      R"({"a":1})",
      R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}})",
      cat(R"({"a":)", entry("[3]", 0, 8), "}"),
      cat(R"({"a":)", entry("[-2]", 0, 8), "}"),
      cat(R"({"a":)", entry("[2]", 8, 16), "}"),
      cat(R"({"a":)", entry("[4611686018427387905,2]", 0, 8), "}"),
      cat(R"({"a":)", entry("[2]", 0, 8), R"(,"b":)", entry("[2]", 0, 8), "}"),
      cat(R"({"a":)", entry("[1]", 0, 4), R"(,"b":)", entry("[0]", 8, 8), "}"),
      cat(R"({"a":)", entry("[2.0]", 0, 8), "}"),
      cat(R"({"a":)", entry("[2]", 0, 8), R"(,"b":)",
          entry("[4611686018427387904,0,4611686018427387904]", 8, 8), "}"),
      cat(R"({"a":)", entry("[2]", 0, 8), R"(,"b":)", entry("[0,9223372036854775807]", 8, 8), "}"),
      cat(R"({"a":)", entry("[18446744073709551615]", 0, 8), "}"),
      cat(R"({"a":)", entry("[2" + many_ones + "]", 0, 8), "}"),
      std::string(60000, '['),
      cat(R"({"a":)", std::string(20000, '['), std::string(20000, ']'), "}"),
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0.0,8]}})",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})",
      R"({"a":{"dtype":"F32","shape":{"x":2},"data_offsets":[-8,0]}})",
  };
  for (const std::string& header : headers) {
    write_text(folder / "bad", file_of(header, 8));
    EXPECT_THROW(SafetensorsFile(folder / "bad"), DataError) << header;
  }
  write_text(folder / "good",
             file_of(cat(R"({"a":)", entry("[2]", 0, 8), R"(,"b":)", entry("[3,0,5]", 8, 8), "}"), 8));
  EXPECT_EQ(SafetensorsFile(folder / "good").read("b").sizes(), (at::IntArrayRef{3, 0, 5}));
}

TEST(Safetensors, AFailedWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  EXPECT_THROW(write_safetensors(folder / "none/m.safetensors", some_tensors(), {}), DataError);
  write_text(folder / "m.safetensors", "old");
  EXPECT_THROW(write_safetensors(folder / "m.safetensors", {{"q", at::empty({1}, at::kComplexFloat)}}, {}),
               InternalError);
  EXPECT_EQ(read_file(folder / "m.safetensors", "file"), "old");
}

}  // namespace
}  // namespace fwl

#include "core/base/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "core/base/error.h"

namespace fwl {
namespace {

template <typename Call>
std::string config_error_of(Call call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(Device, ReadsTheThreeDtypesAndRefusesOthers) {
  EXPECT_EQ(parse_dtype("fp64"), at::kDouble);
  EXPECT_EQ(parse_dtype("fp32"), at::kFloat);
  EXPECT_EQ(parse_dtype("bf16"), at::kBFloat16);
  EXPECT_THROW(parse_dtype("float"), ConfigError);
}

TEST(Device, CpuIsAlwaysThereForEveryLocalRank) {
  EXPECT_EQ(choose_device("cpu", 0), at::Device(at::kCPU));
  EXPECT_EQ(choose_device("cpu", 63), at::Device(at::kCPU));
}

TEST(Device, RefusesAnUnknownName) {
  EXPECT_NE(config_error_of([] { choose_device("gpu", 0); }).find("auto, cpu or cuda"), std::string::npos);
}

TEST(Device, AutoIsCudaExactlyWhenAGpuCanBeUsed) {
  EXPECT_EQ(choose_device("auto", 0).is_cuda(), cuda_device_count() > 0);
}

TEST(Device, ALocalRankWithoutAGpuIsToldWhy) {
  const int count = cuda_device_count();
  const std::string message = config_error_of([&] { choose_device("cuda", count); });
  const std::string expected = count == 0 ? "no" : "local rank " + std::to_string(count);
  EXPECT_NE(message.find(expected), std::string::npos) << message;
}

TEST(Device, CanBeAskedForByManyThreadsAtOnce) {
  std::vector<int> counts(8, -1);
  std::vector<std::thread> threads;
  for (int& count : counts) threads.emplace_back([&count] { count = cuda_device_count(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counts, std::vector<int>(8, cuda_device_count()));
}

TEST(Device, PeakMemoryOfTheCpuGrowsWithUse) {
  const at::Device cpu(at::kCPU);
  reset_peak_memory(cpu);
  const int64_t before = peak_memory_bytes(cpu);
  ASSERT_GT(before, 0);
  constexpr size_t kBytes = size_t{512} << 20;
  std::vector<char> large(kBytes);
  std::memset(large.data(), 1, kBytes);
  const int64_t after = peak_memory_bytes(cpu);
  // VmHWM may start above the present size where it cannot be reset.
  EXPECT_GT(after - before, static_cast<int64_t>(kBytes / 2));
  synchronize(cpu);
}

}  // namespace
}  // namespace fwl

#include "launch/plan/calibration.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

constexpr double kPromised = 0.10;  // relative error

std::vector<Measurement> measurements() {
  return read_measurements(FWL_SOURCE_DIR "/launch/plan/measurements.json", "a100");
}

Prediction predicted(const Measurement& m, const WorkRates& rates) {
  return predict(m.config, m.shape, machine_for(find_gpu(m.gpu), rates));
}

double error_of(const Measurement& m, const WorkRates& rates) {
  return predicted(m, rates).tokens_per_s / m.tokens_per_s - 1;
}

TEST(Calibration, EveryMeasuredSpeedIsPredictedWithinTenPercent) {
  int compared = 0;
  for (const Measurement& m : measurements()) {
    if (!std::isfinite(m.tokens_per_s)) continue;
    const double error = error_of(m, h200_rates());
    std::printf("  %-55s %+.1f %%\n", m.name.c_str(), 100 * error);
    EXPECT_LT(std::abs(error), kPromised) << m.name;
    ++compared;
  }
  EXPECT_GE(compared, 9);
}

TEST(Calibration, EverySpeedFollowsFromTheOthersToo) {
  const std::vector<Measurement> all = measurements();
  for (size_t i = 0; i < all.size(); ++i) {
    if (!std::isfinite(all[i].tokens_per_s)) continue;
    std::vector<Measurement> others = all;
    others.erase(others.begin() + static_cast<int64_t>(i));
    const double error = error_of(all[i], fit_rates(others, profiled_rates()));
    std::printf("  %-55s %+.1f %%\n", all[i].name.c_str(), 100 * error);
    EXPECT_LT(std::abs(error), kPromised) << all[i].name;
  }
}

TEST(Calibration, EveryMeasuredPeakMemoryIsPredictedWithinTenPercent) {
  for (const Measurement& m : measurements()) {
    if (!std::isfinite(m.peak_memory_bytes)) continue;
    const double error = predicted(m, h200_rates()).memory.total() / m.peak_memory_bytes - 1;
    std::printf("  %-55s %+.1f %%\n", m.name.c_str(), 100 * error);
    EXPECT_LT(std::abs(error), kPromised) << m.name;
  }
}

TEST(Calibration, EveryMeasuredEfficiencyIsPredictedWithinTenPercent) {
  for (const Measurement& m : measurements()) {
    if (!std::isfinite(m.efficiency)) continue;
    Measurement one = m;
    one.config.train.global_batch = std::max<int64_t>(1, m.config.train.global_batch / m.shape.ranks());
    one.shape = {1, 1};
    const double efficiency =
        predicted(m, h200_rates()).tokens_per_s / m.shape.ranks() / predicted(one, h200_rates()).tokens_per_s;
    std::printf("  %-55s %.3f, measured %.3f\n", m.name.c_str(), efficiency, m.efficiency);
    EXPECT_LT(std::abs(efficiency / m.efficiency - 1), kPromised) << m.name;
  }
}

TEST(Calibration, TheRatesInTheProgramAreThoseOfTheMeasurements) {
  const WorkRates fitted = fit_rates(measurements(), profiled_rates());
  for (int i = 0; i < kWorkKinds; ++i) {
    std::printf("  %-20s %.4e\n", kWorkNames[i], fitted[i]);
    EXPECT_NEAR(h200_rates()[i] / fitted[i], 1, 0.01) << kWorkNames[i] << ": " << fitted[i];
  }
}

TEST(Calibration, ASlowerMachineIsLearnedFromItsOwnMeasurements) {
  std::vector<Measurement> slower = measurements();
  for (Measurement& m : slower) m.tokens_per_s *= 0.7;
  const WorkRates rates = fit_rates(slower, h200_rates());
  for (const Measurement& m : slower) {
    if (m.shape.ranks() > 1 || !std::isfinite(m.tokens_per_s)) continue;
    EXPECT_LT(std::abs(error_of(m, rates)), 0.15) << m.name;
    EXPECT_GT(error_of(m, h200_rates()), 0.3) << m.name;
  }
}

TEST(Calibration, AMeasurementThatNamesNoGpuIsOfTheOneThatIsPlannedFor) {
  TemporaryFolder folder;
  write_text(folder / "bench.json",
             R"({"config": "model: {layers: 2}\ntrain: {dtype: bf16}", "tokens_per_s": {"median": 1e5}})");
  const std::vector<Measurement> one = read_measurements(folder / "bench.json", "a100");
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].gpu, "a100");
  EXPECT_EQ(one[0].tokens_per_s, 1e5);
  const WorkRates rates = fit_rates(one, h200_rates());
  const double before = std::abs(error_of(one[0], h200_rates())), after = std::abs(error_of(one[0], rates));
  EXPECT_LT(after, before) << "the A100's rates are fitted, not the H200's taken for them";
}

TEST(Calibration, BadMeasurementsAreNamed) {
  TemporaryFolder folder;
  const auto refused = [&](const std::string& text) {
    write_text(folder / "bench.json", text);
    EXPECT_THROW(read_measurements(folder / "bench.json", "h200"), Error) << text;
  };
  refused("[]");
  refused("{");
  refused(R"({"tokens_per_s": 5})");
  refused(R"({"config": "model: {layers: 2}", "tokens_per_s": "fast"})");
  refused(R"({"config": "model: {layers: 2}", "layout": "two", "tokens_per_s": 5})");
  refused(R"({"config": "model: {layer: 2}", "tokens_per_s": 5})");
  refused(R"({"measurements": {}})");
}

}  // namespace
}  // namespace fwl

// Bootstrap intervals over documents: how much a figure would differ had other documents been held out.
//
// A resample draws as many documents as there are, with replacement; the figure is the ratio of two sums over
// them (nats over tokens, nats over bytes). The interval is that of the middle 95 % of the resamples
// (percentile method). Tokens of one document are drawn together, because their losses hang together.
// Resample k draws the same documents for every mode, so that differences between modes are paired.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace fwl {

inline constexpr int64_t kResamples = 2000;
inline constexpr uint64_t kResampleSeed = 20220913;

struct Interval {
  double low = 0, high = 0;
};

// Of sum(numerator) / sum(denominator); one value per document, the same documents in both. Nothing where
// there are fewer than two documents to draw from.
std::optional<Interval> bootstrap_interval(const std::vector<double>& numerator,
                                           const std::vector<double>& denominator,
                                           int64_t resamples = kResamples, uint64_t seed = kResampleSeed);

}  // namespace fwl

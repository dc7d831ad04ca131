// TensorBoard's event files, written without TensorFlow: records (TFRecord framing with masked CRC-32C) that
// hold protocol buffer messages. Only what a training log needs: scalars, histograms, and the mark of a
// restart. Formats: tensorflow/core/lib/io/record_writer.h,
// tensorboard/compat/proto/{event,summary,histogram}.proto.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fwl {

// CRC-32C (Castagnoli) of RFC 3720; 0xe3069283 for "123456789".
uint32_t crc32c(const std::string& bytes);

// One record: length (8 bytes, little endian), masked CRC of the length, `content`, masked CRC of the
// content.
std::string tfrecord(const std::string& content);

// Counts of values in TensorBoard's form: counts[i] values lie in (limits[i - 1], limits[i]].
struct Histogram {
  double low = 0, high = 0, count = 0, sum = 0, sum_of_squares = 0;
  std::vector<double> limits, counts;
};
// `bins` bins of equal width from the smallest to the largest value. Values that are not finite are left out.
Histogram histogram_of(const std::vector<float>& values, int bins = 30);

// The messages of event.proto, serialised.
std::string version_event(double wall_time_s);
// Readers drop what earlier files of the folder hold of this step and later ones.
std::string start_event(double wall_time_s, int64_t step);

using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value
using Histograms = std::vector<std::pair<std::string, Histogram>>;
std::string summary_event(double wall_time_s, int64_t step, const Scalars& scalars,
                          const Histograms& histograms);

}  // namespace fwl

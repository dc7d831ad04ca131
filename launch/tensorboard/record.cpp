#include "launch/tensorboard/record.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace fwl {
namespace {

std::array<uint32_t, 256> crc_table() {
  constexpr uint32_t kPolynomial = 0x82f63b78;  // Castagnoli's, bits reversed
  std::array<uint32_t, 256> table;
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    table[i] = value;
  }
  return table;
}

// CRCs of data that hold CRCs are weak; TFRecord rotates and shifts them.
uint32_t masked(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
}

template <typename T>
std::string little_endian(T value) {
  std::string bytes(sizeof value, '\0');
  for (size_t i = 0; i < sizeof value; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

// ---- protocol buffers: every field is a key (number and wire type), then its value

enum class Wire : uint64_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(uint64_t number, Wire wire) {
  return varint(number << 3 | static_cast<uint64_t>(wire));
}

std::string fixed64(double value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return little_endian(bits);
}

std::string field(uint64_t number, double value) {
  return key(number, Wire::kFixed64) + fixed64(value);
}
std::string field(uint64_t number, float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return key(number, Wire::kFixed32) + little_endian(bits);
}
std::string field(uint64_t number, int64_t value) {
  return key(number, Wire::kVarint) + varint(static_cast<uint64_t>(value));
}
std::string field(uint64_t number, const std::string& bytes) {
  return key(number, Wire::kLengthDelimited) + varint(bytes.size()) + bytes;
}
std::string field(uint64_t number, const std::vector<double>& packed) {
  std::string bytes;
  for (const double value : packed) bytes += fixed64(value);
  return field(number, bytes);
}

// message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5;
//                 SessionLog session_log = 7; }
std::string event(double wall_time_s, int64_t step, const std::string& what) {
  return field(1, wall_time_s) + field(2, step) + what;
}

// message HistogramProto { double min = 1, max = 2, num = 3, sum = 4, sum_squares = 5;
//                          repeated double bucket_limit = 6, bucket = 7; }
std::string message(const Histogram& h) {
  return field(1, h.low) + field(2, h.high) + field(3, h.count) + field(4, h.sum) +
         field(5, h.sum_of_squares) + field(6, h.limits) + field(7, h.counts);
}

}  // namespace

uint32_t crc32c(const std::string& bytes) {
  static const std::array<uint32_t, 256> table = crc_table();
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

std::string tfrecord(const std::string& content) {
  const std::string length = little_endian(static_cast<uint64_t>(content.size()));
  return length + little_endian(masked(crc32c(length))) + content + little_endian(masked(crc32c(content)));
}

Histogram histogram_of(const std::vector<float>& values, int bins) {
  std::vector<double> finite;
  for (const float value : values)
    if (std::isfinite(value)) finite.push_back(value);
  if (finite.empty()) return {};
  Histogram h;
  const auto [low, high] = std::minmax_element(finite.begin(), finite.end());
  h.low = *low;
  h.high = *high;
  // A single value gets bins of some width, all of which but one stay empty.
  const double width = (h.high > h.low ? h.high - h.low : std::max(1e-12, std::abs(h.high) * 0.01)) / bins;
  h.counts.assign(static_cast<size_t>(bins), 0);
  for (int i = 1; i <= bins; ++i)
    h.limits.push_back(i < bins ? h.low + i * width : std::max(h.high, h.low + i * width));
  for (const double value : finite) {
    const auto bin = std::lower_bound(h.limits.begin(), h.limits.end(), value) - h.limits.begin();
    h.counts[static_cast<size_t>(std::min<int64_t>(bin, bins - 1))] += 1;
    h.count += 1;
    h.sum += value;
    h.sum_of_squares += value * value;
  }
  return h;
}

std::string version_event(double wall_time_s) {
  return event(wall_time_s, 0, field(3, std::string("brain.Event:2")));
}

// message SessionLog { enum SessionStatus { START = 1; } SessionStatus status = 1; }
std::string start_event(double wall_time_s, int64_t step) {
  constexpr int64_t kStart = 1;
  return event(wall_time_s, step, field(7, field(1, kStart)));
}

// message Summary { message Value { string tag = 1; float simple_value = 2; HistogramProto histo = 5; }
//                   repeated Value value = 1; }
std::string summary_event(double wall_time_s, int64_t step, const Scalars& scalars,
                          const Histograms& histograms) {
  std::string summary;
  for (const auto& [tag, value] : scalars)
    summary += field(1, field(1, tag) + field(2, static_cast<float>(value)));
  for (const auto& [tag, histogram] : histograms)
    summary += field(1, field(1, tag) + field(5, message(histogram)));
  return event(wall_time_s, step, field(5, summary));
}

}  // namespace fwl

// SipHash-2-4 (Aumasson and Bernstein 2012): a short message's code under a key that only the job knows. Who
// does not know the key cannot make it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fwl {

using SipKey = std::array<uint64_t, 2>;

inline uint64_t siphash(const SipKey& key, const void* data, size_t bytes) {
  const auto turn = [](uint64_t x, int by) { return (x << by) | (x >> (64 - by)); };
  std::array<uint64_t, 4> v = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
                               key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull};
  const auto mix = [&](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      v[0] += v[1], v[1] = turn(v[1], 13) ^ v[0], v[0] = turn(v[0], 32);
      v[2] += v[3], v[3] = turn(v[3], 16) ^ v[2];
      v[0] += v[3], v[3] = turn(v[3], 21) ^ v[0];
      v[2] += v[1], v[1] = turn(v[1], 17) ^ v[2], v[2] = turn(v[2], 32);
    }
  };
  const auto take = [&](uint64_t word) {
    v[3] ^= word;
    mix(2);
    v[0] ^= word;
  };
  const auto* from = static_cast<const unsigned char*>(data);
  size_t done = 0;
  for (; done + 8 <= bytes; done += 8) {
    uint64_t word = 0;
    std::memcpy(&word, from + done, 8);
    take(word);
  }
  uint64_t last = static_cast<uint64_t>(bytes) << 56;
  for (size_t i = done; i < bytes; ++i) last |= static_cast<uint64_t>(from[i]) << (8 * (i - done));
  take(last);
  v[2] ^= 0xff;
  mix(4);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

}  // namespace fwl

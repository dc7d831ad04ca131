#include "parallel/interfaces.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

namespace fwl {
namespace {

// Whether other hosts may reach this one there.
bool leads_outside(const ifaddrs& i) {
  if (i.ifa_addr == nullptr || (i.ifa_flags & IFF_UP) == 0 || (i.ifa_flags & IFF_LOOPBACK) != 0) return false;
  if (is_container_bridge(i.ifa_name)) return false;
  if (i.ifa_addr->sa_family == AF_INET) return true;
  return i.ifa_addr->sa_family == AF_INET6 &&
         !IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(i.ifa_addr)->sin6_addr);
}

}  // namespace

std::vector<sockaddr_storage> outside_addresses() {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(first, ::freeifaddrs);
  std::vector<sockaddr_storage> addresses;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* i = first; i != nullptr; i = i->ifa_next) {
      if (!leads_outside(*i) || i->ifa_addr->sa_family != family) continue;
      sockaddr_storage address{};
      std::memcpy(&address, i->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
      addresses.push_back(address);
    }
  }
  return addresses;
}

bool is_container_bridge(const std::string& interface) {
  constexpr std::array kPrefixes = {"docker", "virbr", "br-", "cni", "lxc"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](const char* prefix) { return interface.rfind(prefix, 0) == 0; });
}

}  // namespace fwl

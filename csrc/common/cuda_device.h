// What the CUDA runtime inside this module finds on the machine. Nothing here fails without a driver.
#ifndef OPTPRUNE_COMMON_CUDA_DEVICE_H
#define OPTPRUNE_COMMON_CUDA_DEVICE_H

#include <string>
#include <vector>

namespace optprune::cuda {

int device_count();           // 0 where device_error() says something
std::string device_error();   // why the runtime finds no device; empty where it finds one
int runtime_version();        // 13000 for 13.0
int driver_version();         // the newest runtime that the driver serves; 0 without a driver
std::vector<int> architectures();  // compute capabilities with code in this module: 80 for 8.0

}  // namespace optprune::cuda

#endif

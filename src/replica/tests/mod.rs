mod cost;
mod disk;
mod faults;
mod flips;
mod pair;
mod pair_power;
mod power;
mod reads;

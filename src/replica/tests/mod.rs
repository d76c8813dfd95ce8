mod cost;
mod disk;
mod flips;
mod pair;
mod pair_power;
mod power;

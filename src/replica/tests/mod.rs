mod cost;
mod disk;
mod pair;
mod pair_power;
mod power;

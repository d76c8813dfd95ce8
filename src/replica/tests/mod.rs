mod cost;
mod pair;
mod power;

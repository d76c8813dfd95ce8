fn main() {
    println!("cargo:rustc-cfg=faults");
}

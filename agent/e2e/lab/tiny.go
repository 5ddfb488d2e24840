package lab

// tinyROM is where the tiny guest's firmware stands inside a host.
const tinyROM = Dir + "/tiny.rom"

// tinyGuest is firmware that is the whole guest: 64 KiB, the smallest ROM that qemu's pc machine takes, mapped so
// that its last 16 bytes are the processor's reset vector. It points the vector of the non-maskable interrupt at a
// handler that writes "panicked" to the pvpanic port (qemu docs/specs/pvpanic: port 0x505, bit 0), and halts.
func tinyGuest() []byte {
	const size = 64 << 10
	rom := make([]byte, size)
	copy(rom, []byte{
		0xFA,       // 0000 cli
		0x31, 0xC0, // 0001 xor ax, ax
		0x8E, 0xD8, // 0003 mov ds, ax
		0x8E, 0xD0, // 0005 mov ss, ax
		0xBC, 0x00, 0x7C, // 0007 mov sp, 0x7C00
		0xC7, 0x06, 0x08, 0x00, 0x20, 0x00, // 000A mov word [0x0008], 0x0020: offset of interrupt 2
		0xC7, 0x06, 0x0A, 0x00, 0x00, 0xF0, // 0010 mov word [0x000A], 0xF000: its segment
		0xF4,       // 0016 hlt
		0xEB, 0xFD, // 0017 jmp 0016
	})
	copy(rom[0x20:], []byte{
		0xBA, 0x05, 0x05, // 0020 mov dx, 0x505
		0xB0, 0x01, // 0023 mov al, 1
		0xEE, // 0025 out dx, al
		0xCF, // 0026 iret
	})
	copy(rom[size-16:], []byte{0xEA, 0x00, 0x00, 0x00, 0xF0}) // jmp F000:0000
	return rom
}
